"""Signing bundles, and removing signatures that no longer fit."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from build.__main__ import main
from build.signing import sign_bundle
from service.bundle.folder import Bundle, load_bundle
from service.bundle.manifest import LABELS, MANIFEST, SIGNATURE
from service.errors import BundleError
from tests.certificates import OPENSSL, needs_openssl
from tests.signed import KeyPair, flip, make_key_pair, signed_copy


@pytest.fixture
def pair(tmp_path: Path) -> KeyPair:
    return make_key_pair(tmp_path / "keys")


@pytest.fixture
def path(colours: Bundle, tmp_path: Path) -> Path:
    return shutil.copytree(colours.path, tmp_path / "colours")


def test_sign_leaves_a_signature_that_the_service_accepts(
    path: Path, pair: KeyPair, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_bundle(path)
    assert main(["sign", str(path), "--key", str(pair.private)]) == 0
    message = f"{path / SIGNATURE}: serve the bundle with the public key as EDGEWISE_BUNDLE_PUBLIC_KEY\n"
    assert capsys.readouterr().out == message
    assert load_bundle(path, pair.public) == replace(before, public_key=pair.public)
    first = (path / SIGNATURE).read_bytes()
    assert sign_bundle(path, pair.private).read_bytes() == first


@needs_openssl
def test_openssl_verifies_the_signature(path: Path, pair: KeyPair) -> None:
    signature = sign_bundle(path, pair.private)
    command = [OPENSSL, "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", pair.public]
    command += ["-in", path / MANIFEST, "-sigfile", signature]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    flip(path / MANIFEST, 1)
    assert subprocess.run(command, check=False, capture_output=True).returncode == 1  # noqa: S603


def test_a_bundle_that_does_not_match_its_manifest_is_not_signed(path: Path, pair: KeyPair) -> None:
    flip(path / LABELS, 0)
    with pytest.raises(BundleError, match=r"labels\.txt is not the file that the manifest names"):
        sign_bundle(path, pair.private)
    flip(path / LABELS, 0)
    (path / "extra.bin").touch()
    with pytest.raises(BundleError, match=r"does not name: extra\.bin"):
        sign_bundle(path, pair.private)
    assert not (path / SIGNATURE).exists()


def refused(path: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Check that signing is refused in one line and writes nothing; return that line."""
    assert main(["sign", str(path), "--key", str(key)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert not (path / SIGNATURE).exists()
    return line.removeprefix("edgewise: ")


def test_a_file_that_is_no_private_key_is_refused(
    path: Path, pair: KeyPair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "none.pem"
    assert refused(path, missing, capsys) == f"--key {missing} can't be read: No such file or directory"
    message = (
        f"--key {pair.public} holds no Ed25519 private key in PEM, or an encrypted one; make one with openssl"
    )
    assert refused(path, pair.public, capsys).startswith(message)


@needs_openssl
def test_an_encrypted_key_is_refused(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "encrypted.pem"
    command = ["genpkey", "-algorithm", "ed25519", "-aes-256-cbc", "-pass", "pass:word", "-out", key]
    subprocess.run([OPENSSL, *command], check=True, capture_output=True)  # noqa: S603
    assert "or an encrypted one; " in refused(path, key, capsys)


def test_a_new_manifest_removes_the_signature_and_the_command_says_so(
    colours: Bundle, pair: KeyPair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = signed_copy(colours, tmp_path / "colours", pair)
    command = ["report", str(path), "--runs", "10"]
    message = rf"^{path} is no longer signed, since its manifest is new: sign it again with `build sign`"
    assert main(command) == 0
    assert re.search(message, capsys.readouterr().out, re.MULTILINE)
    assert not (path / SIGNATURE).exists()
    assert main(command) == 0
    assert "signed" not in capsys.readouterr().out
