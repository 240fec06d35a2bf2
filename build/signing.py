"""Signing a bundle: nodes with the public key serve only bundles signed with its private key."""

from pathlib import Path

from nacl.signing import SigningKey

from build.errors import BuildError
from service.bundle.folder import load_bundle, verify
from service.bundle.manifest import MANIFEST, SIGNATURE
from service.bundle.signature import PRIVATE, read_key
from service.host.output import write_whole


def sign_bundle(path: Path, key: Path) -> Path:
    """Verify every file of a bundle, sign its manifest, and return the path of the signature.

    Raises:
        BuildError: the key can't be used.
        BundleError: a file of the bundle is missing, damaged or not in the manifest.
        OSError: the signature can't be written.
    """
    signing_key = SigningKey(_private_key(key))
    verify(load_bundle(path))
    signature = path / SIGNATURE
    write_whole(signature, signing_key.sign((path / MANIFEST).read_bytes()).signature)
    return signature


def _private_key(path: Path) -> bytes:
    try:
        return read_key(path, PRIVATE)
    except OSError as error:
        raise BuildError(f"--key {path} can't be read: {error.strerror}") from None
    except ValueError:
        raise BuildError(
            f"--key {path} holds no Ed25519 private key in PEM, or an encrypted one; make one with openssl"
            " genpkey -algorithm ed25519 -out KEY.pem, or sign with openssl itself (see docs/build.md)"
        ) from None
