"""Real starts of bundles with packed variants, correct and incorrect ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from build.packing import pack
from build.signing import sign_bundle
from service.bundle.folder import Bundle
from tests.api.running import photo
from tests.colours import RGB
from tests.packed import packed_copy, replace_packed, streamed
from tests.signed import flip, make_key_pair
from tests.system.processes import one_line, run, serving

TOKEN = "0123456789abcdef"  # noqa: S105


@pytest.fixture
def packed(colours: Bundle, tmp_path: Path) -> Bundle:
    return packed_copy(colours, tmp_path / "packed", "ptq", "int8")


def test_packed_variants_are_served_and_switched_to(colours: Bundle, packed: Bundle, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with (
        serving(bundle=packed.path, workers=2, admin_token_file=token) as service,
        service.client() as client,
    ):
        for variant in ("ptq", "int8"):
            switched = client.put(
                "/v1/variants/active",
                json={"variant": variant},
                headers={"Authorization": f"Bearer {TOKEN}"},
            )
            assert switched.status_code == 200
            (status,) = [v for v in switched.json()["variants"] if v["name"] == variant]
            declared = packed.variant(variant)
            assert declared.wire is not None
            assert status["wire"] == declared.wire.model_dump()
            assert (status["bytes"], status["sha256"]) == (declared.bytes, colours.variant(variant).sha256)
            for name in RGB:
                answer = client.post("/v1/classify", content=photo(name)).json()
                assert (answer["variant"], answer["predictions"][0]["label"]) == (variant, name)


def truncated(content: bytes) -> bytes:
    return content[:-1]


def extended(content: bytes) -> bytes:
    return content + b"\0"


def damaged(content: bytes) -> bytes:
    return content[:8] + b"\xff" * 8 + content[16:]


def different(_: bytes) -> bytes:
    return pack(b"no model")


def bomb(_: bytes) -> bytes:
    return streamed(256)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncated, "can't be unpacked: it ends before its Zstandard frame does; "),
        (extended, "can't be unpacked: Unable to decompress Zstandard data: "),
        (damaged, "can't be unpacked: Unable to decompress Zstandard data: "),
        (different, "can't be unpacked: it holds 8 bytes, but the manifest says "),
        (bomb, "can't be unpacked: it holds more than the "),
    ],
)
def test_a_wrongly_packed_variant_stops_the_start_in_one_line(
    packed: Bundle, change: Callable[[bytes], bytes], message: str
) -> None:
    file = packed.variant_path("ptq")
    replace_packed(packed, "ptq", change(file.read_bytes()))
    result = run(bundle=packed.path, port=0)
    assert result.returncode == 2
    line = one_line(result.stderr)
    assert line.startswith(f"{file} {message}")
    assert line.endswith("; build the bundle again")


def test_a_damaged_packed_file_stops_the_start_in_one_line(packed: Bundle) -> None:
    file = packed.variant_path("ptq")
    flip(file, 8 * (file.stat().st_size // 2))
    result = run(bundle=packed.path, port=0)
    assert result.returncode == 2
    assert one_line(result.stderr) == (
        f"{file} is not the file that the manifest names (SHA-256 differs); copy the bundle again"
    )


def test_a_signature_covers_packed_variants(packed: Bundle, tmp_path: Path) -> None:
    pair = make_key_pair(tmp_path / "keys")
    sign_bundle(packed.path, pair.private)
    with serving(bundle=packed.path, bundle_public_key=pair.public, variant="fp32"):
        pass
    # Even the file of a variant that would not be loaded.
    flip(packed.variant_path("int8"), 8 * 20)
    result = run(bundle=packed.path, bundle_public_key=pair.public, variant="fp32", port=0)
    assert result.returncode == 2
    assert "int8.tflite.zst is not the file that the manifest names" in one_line(result.stderr)
