"""A manifest's signature holds only for its bytes and its key."""

import subprocess
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from service.bundle.manifest import MANIFEST, SIGNATURE
from service.bundle.signature import PRIVATE, PUBLIC, KeyForm, check_signature, read_key
from service.errors import BundleError, SettingsError
from tests.certificates import OPENSSL, needs_openssl
from tests.signed import KeyPair, make_key_pair, write_key

CONTENT = b'{"schema_version": 2, "name": "colours"}\n'
# X25519, whose OID differs from Ed25519's in its last byte only.
OTHER_ALGORITHM = KeyForm(PUBLIC.label, PUBLIC.head.replace(b"\x70", b"\x6e"))
RAW = KeyForm(PUBLIC.label, b"")


@pytest.fixture
def pair(tmp_path: Path) -> KeyPair:
    return make_key_pair(tmp_path / "keys")


@pytest.fixture
def signature(pair: KeyPair, tmp_path: Path) -> Path:
    """The signature of `CONTENT`, in `tmp_path`."""
    path = tmp_path / SIGNATURE
    path.write_bytes(SigningKey(read_key(pair.private, PRIVATE)).sign(CONTENT).signature)
    return path


def refusal(folder: Path, key: Path, content: bytes = CONTENT) -> str:
    with pytest.raises(BundleError) as caught:
        check_signature(content, folder, key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_valid_signature_is_accepted(pair: KeyPair, signature: Path) -> None:
    check_signature(CONTENT, signature.parent, pair.public)


def test_every_flipped_bit_is_found(pair: KeyPair, signature: Path) -> None:
    good = signature.read_bytes()
    for bit in range(8 * len(CONTENT)):
        flipped = (int.from_bytes(CONTENT) ^ 1 << bit).to_bytes(len(CONTENT))
        assert "is not the signature of manifest.json" in refusal(signature.parent, pair.public, flipped)
    for bit in range(8 * len(good)):
        signature.write_bytes((int.from_bytes(good) ^ 1 << bit).to_bytes(len(good)))
        assert "is not the signature of manifest.json" in refusal(signature.parent, pair.public)


def test_a_signature_by_another_key_is_refused_with_the_keys_path(
    pair: KeyPair, signature: Path, tmp_path: Path
) -> None:
    other = make_key_pair(tmp_path / "other")
    message = refusal(signature.parent, other.public)
    assert message.startswith(
        f"{signature} is not the signature of manifest.json by the key of {other.public}:"
    )


@pytest.mark.parametrize("size", [0, 63, 65, 128])
def test_a_signature_of_another_size_is_refused(pair: KeyPair, signature: Path, size: int) -> None:
    signature.write_bytes((signature.read_bytes() * 2)[:size])
    message = refusal(signature.parent, pair.public)
    assert message.startswith(f"{signature} has {size} bytes, but a signature has 64")


def test_a_missing_signature_is_reported(pair: KeyPair, tmp_path: Path) -> None:
    message = refusal(tmp_path, pair.public)
    assert message.startswith(
        f"{tmp_path / SIGNATURE}: No such file or directory, but EDGEWISE_BUNDLE_PUBLIC_KEY"
    )
    (tmp_path / SIGNATURE).mkdir()
    assert f"{tmp_path / SIGNATURE}: Is a directory" in refusal(tmp_path, pair.public)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda pem: b"", id="empty"),
        pytest.param(lambda pem: b"\xff" + bytes(range(256)), id="no text"),
        pytest.param(lambda pem: pem.replace(b"PUBLIC", b"PRIVATE"), id="another label"),
        pytest.param(lambda pem: pem.replace(b"-----END", b"---- END"), id="no end"),
        pytest.param(lambda pem: pem.replace(b"M", b"?", 1), id="no base64"),
        pytest.param(lambda pem: pem.replace(b"=\n", b"\n"), id="cut base64"),
        pytest.param(lambda pem: b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", id="no key"),
    ],
)
def test_a_file_that_is_no_public_key_is_reported(pair: KeyPair, spoil: object, signature: Path) -> None:
    assert callable(spoil)
    pair.public.write_bytes(spoil(pair.public.read_bytes()))
    with pytest.raises(SettingsError) as caught:
        check_signature(CONTENT, signature.parent, pair.public)
    message = f"EDGEWISE_BUNDLE_PUBLIC_KEY can't be used: {pair.public} holds no Ed25519 public key in PEM; "
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("form", "size"),
    [(PRIVATE, 32), (OTHER_ALGORITHM, 32), (PUBLIC, 31), (PUBLIC, 33), (PUBLIC, 57), (RAW, 32)],
)
def test_keys_of_other_kinds_are_refused(tmp_path: Path, form: KeyForm, size: int) -> None:
    key = write_key(tmp_path / "key.pem", form, bytes(size))
    with pytest.raises(SettingsError, match="holds no Ed25519 public key in PEM"):
        check_signature(CONTENT, tmp_path, key)


def test_a_key_that_can_not_be_read_is_reported(signature: Path, tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.pem", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(SettingsError, match=f"can't be used: {path}: {reason}"):
            check_signature(CONTENT, signature.parent, path)


@needs_openssl
def test_a_signature_by_openssl_is_accepted(tmp_path: Path) -> None:
    private, public, manifest = tmp_path / "KEY.pem", tmp_path / "PUBLIC.pem", tmp_path / MANIFEST
    manifest.write_bytes(CONTENT)
    for command in (
        ["genpkey", "-algorithm", "ed25519", "-out", private],
        # With the key as text before it, which PEM allows.
        ["pkey", "-in", private, "-pubout", "-text", "-out", public],
        ["pkeyutl", "-sign", "-rawin", "-inkey", private, "-in", manifest, "-out", tmp_path / SIGNATURE],
    ):
        subprocess.run([OPENSSL, *command], check=True, capture_output=True)  # noqa: S603
    check_signature(CONTENT, tmp_path, public)
    key = SigningKey(read_key(private, PRIVATE))
    assert bytes(key.verify_key) == read_key(public, PUBLIC)
    assert key.sign(CONTENT).signature == (tmp_path / SIGNATURE).read_bytes()
