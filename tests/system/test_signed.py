"""Real starts of a signed bundle, and of bundles that were changed after signing."""

import os
import shutil
from pathlib import Path

import pytest

from service.bundle.folder import Bundle
from service.bundle.manifest import MANIFEST, SIGNATURE
from tests.api.running import photo
from tests.colours import altered
from tests.signed import KeyPair, flip, make_key_pair, signed_copy
from tests.system.processes import one_line, run, serving

TOKEN = "0123456789abcdef"  # noqa: S105


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def bundle(colours: Bundle, pair: KeyPair, tmp_path: Path) -> Path:
    return signed_copy(colours, tmp_path / "signed", pair)


def refusal(bundle: Path, key: Path, *command: str) -> str:
    """Start the service, which must refuse, and return its error line."""
    result = run(*command, bundle=bundle, bundle_public_key=key, port=0)
    assert result.returncode == 2
    assert result.stdout == ""
    return one_line(result.stderr)


def test_a_flipped_bit_stops_the_start_in_one_line(bundle: Path, pair: KeyPair) -> None:
    # Even in the file of a variant that would not be loaded.
    model = bundle / "softmax.tflite"
    flip(model, 8 * (model.stat().st_size // 2))
    line = refusal(bundle, pair.public)
    assert line.startswith(f"{model} is not the file that the manifest names")
    assert line.endswith("; copy the bundle again")


def test_a_wrong_key_stops_the_start_in_one_line(bundle: Path, tmp_path: Path) -> None:
    other = make_key_pair(tmp_path / "other")
    assert f"is not the signature of {MANIFEST} by the key of {other.public}" in refusal(bundle, other.public)
    assert "holds no Ed25519 public key in PEM" in refusal(bundle, other.private)


@pytest.mark.parametrize("command", ["serve", "check", "benchmark"])
def test_a_missing_signature_stops_the_start_in_one_line(bundle: Path, pair: KeyPair, command: str) -> None:
    (bundle / SIGNATURE).unlink()
    line = refusal(bundle, pair.public, command)
    assert line.startswith(f"{bundle / SIGNATURE}: No such file or directory, but EDGEWISE_BUNDLE_PUBLIC_KEY")


def test_check_reports_that_the_signature_is_valid(bundle: Path, pair: KeyPair) -> None:
    result = run("check", bundle=bundle, bundle_public_key=pair.public)
    assert result.returncode == 0, result.stderr
    line = f"{bundle}: every file matches the manifest, which is signed by the key of {pair.public}, and"
    assert line in result.stdout
    # Without a public key, `check` does not mention the signature.
    result = run("check", bundle=bundle)
    assert result.returncode == 0, result.stderr
    assert "signed by" not in result.stdout


def test_switching_refuses_a_replaced_variant_file(
    colours: Bundle, bundle: Path, pair: KeyPair, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    # The file comes with a matching manifest, but only the signed manifest counts.
    forged = altered(colours, tmp_path / "put", {"int8.tflite": colours.variant_path("softmax").read_bytes()})
    with (
        serving(bundle=bundle, bundle_public_key=pair.public, admin_token_file=token) as service,
        service.client() as client,
    ):
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        for name in (MANIFEST, "int8.tflite"):
            shutil.copy(forged.path / name, tmp_path / name)
            os.replace(tmp_path / name, bundle / name)  # noqa: PTH105 (atomic)
        answer = client.put("/v1/variants/active", json={"variant": "int8"})
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (500, "unusable-variant")
        assert f"{bundle / 'int8.tflite'} has " in answer.json()["detail"]
        answer = client.post("/v1/classify", content=photo("red"))
        assert (answer.status_code, answer.json()["variant"]) == (200, "ptq")
        assert client.put("/v1/variants/active", json={"variant": "fp32"}).status_code == 200


def test_overwriting_a_served_file_changes_nothing(bundle: Path, pair: KeyPair) -> None:
    # Without a delegate, inference reads the weights from the model without copying them.
    with (
        serving(bundle=bundle, bundle_public_key=pair.public, delegate="none") as service,
        service.client() as client,
    ):
        before = client.post("/v1/classify", content=photo("red")).json()["predictions"]
        (bundle / "ptq.tflite").write_bytes(b"")
        after = client.post("/v1/classify", content=photo("red"))
        assert (after.status_code, after.json()["predictions"]) == (200, before)
