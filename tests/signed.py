"""Key pairs in PEM, and bundles signed by them."""

import shutil
from base64 import encodebytes
from dataclasses import dataclass
from pathlib import Path

from nacl.signing import SigningKey

from build.signing import sign_bundle
from service.bundle.folder import Bundle
from service.bundle.signature import PRIVATE, PUBLIC, KeyForm


@dataclass(frozen=True)
class KeyPair:
    """Two PEM files, as openssl would write them."""

    private: Path
    public: Path


def make_key_pair(folder: Path) -> KeyPair:
    """Write a new key pair into a folder, which is created if necessary."""
    folder.mkdir(exist_ok=True)
    key = SigningKey.generate()
    return KeyPair(
        private=write_key(folder / "key.pem", PRIVATE, bytes(key)),
        public=write_key(folder / "public.pem", PUBLIC, bytes(key.verify_key)),
    )


def write_key(path: Path, form: KeyForm, key: bytes) -> Path:
    """Write a key as PEM."""
    body = encodebytes(form.head + key).decode()
    path.write_text(f"-----BEGIN {form.label}-----\n{body}-----END {form.label}-----\n")
    return path


def signed_copy(bundle: Bundle, path: Path, pair: KeyPair) -> Path:
    """Copy a bundle to `path`, and sign it there."""
    shutil.copytree(bundle.path, path)
    sign_bundle(path, pair.private)
    return path


def flip(file: Path, bit: int) -> None:
    """Flip one bit of a file; `bit` counts from its beginning, modulo its size."""
    content = bytearray(file.read_bytes())
    at, within = divmod(bit % (8 * len(content)), 8)
    content[at] ^= 1 << within
    file.write_bytes(content)
