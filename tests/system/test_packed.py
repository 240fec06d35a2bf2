"""Real starts of bundles with packed variants, correct and incorrect ones."""

from pathlib import Path

import pytest

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


def test_a_wrongly_packed_variant_stops_the_start_in_one_line(packed: Bundle) -> None:
    replace_packed(packed, "ptq", streamed(256))
    result = run(bundle=packed.path, port=0)
    assert result.returncode == 2
    line = one_line(result.stderr)
    assert line.startswith(f"{packed.variant_path('ptq')} can't be unpacked: it holds more than the ")
    assert line.endswith("; build the bundle again")


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
