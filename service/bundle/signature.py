"""The signature of a bundle's manifest: Ed25519 (RFC 8032), with keys in PEM as openssl writes them.

It signs the manifest's bytes, and the manifest has the SHA-256 of every other file.
"""

import re
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path

from service.bundle.manifest import MANIFEST, SIGNATURE
from service.errors import BundleError, SettingsError

SIGNATURE_BYTES = 64
KEY_BYTES = 32


@dataclass(frozen=True)
class KeyForm:
    """The PEM form of an Ed25519 key (RFC 8410): its label, and everything before the key in the DER."""

    label: str
    head: bytes


PUBLIC = KeyForm("PUBLIC KEY", bytes.fromhex("302a300506032b6570032100"))
PRIVATE = KeyForm("PRIVATE KEY", bytes.fromhex("302e020100300506032b657004220420"))


def read_key(path: Path, form: KeyForm) -> bytes:
    """Return the 32 bytes of the key in a PEM file.

    Raises:
        OSError: the file can't be read.
        ValueError: the file has no Ed25519 key of this form, or it is encrypted.
    """
    boundaries = f"-----BEGIN {form.label}-----(.*?)-----END {form.label}-----".encode()
    found = re.search(boundaries, path.read_bytes(), re.DOTALL)
    der = b64decode(b"".join(found[1].split()), validate=True) if found else b""
    if not der.startswith(form.head) or len(der) != len(form.head) + KEY_BYTES:
        raise ValueError(f"no Ed25519 {form.label.lower()} in PEM")
    return der[-KEY_BYTES:]


def check_signature(manifest: bytes, folder: Path, public_key: Path) -> None:
    """Check that the signature in a bundle's folder is for these bytes, by the key in this PEM file.

    Raises:
        SettingsError: the key can't be used.
        BundleError: the signature is missing, damaged, for other bytes or by another key.
    """
    # Imported only here: it takes memory, and most services don't require a signature.
    from nacl.exceptions import BadSignatureError
    from nacl.signing import VerifyKey

    key = VerifyKey(_public_key(public_key))
    file = folder / SIGNATURE
    try:
        signature = file.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{file}: {error.strerror}, but EDGEWISE_BUNDLE_PUBLIC_KEY requires a signed bundle; copy the"
            " bundle again with it, or sign it (see docs/build.md)"
        ) from None
    if len(signature) != SIGNATURE_BYTES:
        raise BundleError(
            f"{file} has {len(signature)} bytes, but a signature has {SIGNATURE_BYTES}; copy the bundle again"
        )
    try:
        key.verify(manifest, signature)
    except BadSignatureError:
        raise BundleError(
            f"{file} is not the signature of {MANIFEST} by the key of {public_key}: one of the three was"
            " changed or belongs elsewhere; copy the bundle again, or sign it with that key (see"
            " docs/build.md)"
        ) from None


def _public_key(path: Path) -> bytes:
    try:
        return read_key(path, PUBLIC)
    except OSError as error:
        reason = f"{path}: {error.strerror}"
    except ValueError:
        reason = (
            f"{path} holds no Ed25519 public key in PEM; make it from the private key that signs:"
            " openssl pkey -in KEY.pem -pubout"
        )
    raise SettingsError(f"EDGEWISE_BUNDLE_PUBLIC_KEY can't be used: {reason} (see docs/build.md)")
