from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from build.assembly.variants import quantize, report_too_few
from build.errors import BuildError
from build.network.weights import Network, load_network
from build.photos.data import PhotoSet, sample
from build.quantization.recipe import load_recipe
from service.bundle.folder import Bundle, sha256_of, verify
from service.bundle.manifest import GOLDEN, MODEL_CARD
from service.inference.classifier import Classifier
from tests.build.conftest import REPRESENTATIVE


def test_a_recipe_with_a_wire_format_makes_a_packed_variant(start: Network, tmp_path: Path) -> None:
    recipe = load_recipe("fp32").model_copy(update={"wire": "zstd"})
    bundle = quantize(start, [recipe], PhotoSet("none", ()), "python -m build quantize", tmp_path / "small")
    assert sorted(path.name for path in bundle.path.glob("fp32*")) == ["fp32.tflite.zst"]
    assert bundle.variant("fp32").provenance.recipe["wire"] == "zstd"
    Classifier(bundle, "fp32")


def test_a_recipe_that_trains_needs_photos_to_train_on(
    start: Network, calibration: Path, tmp_path: Path
) -> None:
    photos = sample(calibration, REPRESENTATIVE)
    with pytest.raises(BuildError, match="the recipe qat trains; it needs photos to train on"):
        quantize(start, [load_recipe("qat")], photos, "python -m build quantize", tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weight_bits": {"blokc*": 4}}, r"the recipe's pattern blokc\* matches no layer of the network"),
        ({"float_blocks": ("block9a",)}, "float_blocks has block9a, but the network has block1a, block2a"),
    ],
)
def test_a_recipe_for_unknown_layers_is_refused_before_any_conversion(
    start: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("build.assembly.variants.convert", lambda *_: pytest.fail("it was made"))
    recipes = [load_recipe("fp32"), load_recipe("ptq").model_copy(update=changed)]
    with pytest.raises(BuildError, match=message):
        quantize(start, recipes, PhotoSet("none", ()), "python -m build quantize", tmp_path / "small")


def test_too_few_representative_photos_give_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    report_too_few([load_recipe("fp32"), load_recipe("ptq"), load_recipe("naive")], 37)
    ptq, naive = capsys.readouterr().err.splitlines()
    assert ptq == "edgewise: ptq asks for 500 representative photos, but gets 37"
    assert naive.startswith("edgewise: naive asks for ")
    report_too_few([load_recipe("ptq")], 500)
    assert capsys.readouterr().err == ""


def test_variants_are_added_to_those_of_a_bundle(measured: Bundle, tmp_path: Path) -> None:
    network = load_network(str(measured.path))
    recipes = [load_recipe(name).model_copy(update={"wire": "zstd"}) for name in ("fp16", "fp32")]
    path = tmp_path / "more"
    bundle = quantize(network, recipes, PhotoSet("none", ()), "python -m build add", path, beside=measured)
    verify(bundle)
    assert list(bundle.manifest.variants) == ["fp32", "ptq", "fp16"]
    assert bundle.manifest.default_variant == measured.manifest.default_variant == "ptq"
    assert bundle.seen_images == measured.seen_images
    kept, before = bundle.variant("ptq"), measured.variant("ptq")
    assert before.evaluations
    assert kept == before.model_copy(update={"evaluations": (), "latency": None})
    assert bundle.variant("fp32").wire is not None
    assert MODEL_CARD not in bundle.manifest.files
    for name in bundle.manifest.variants:
        Classifier(bundle, name)


def test_adding_to_a_bundle_with_other_golden_pixels_is_refused(
    copy: Bundle, start: Network, tmp_path: Path
) -> None:
    with np.load(copy.path / GOLDEN) as arrays:
        golden = dict(arrays)
    np.savez(copy.path / GOLDEN, **golden | {"pixels": golden["pixels"] + 1})
    files = copy.manifest.files | {GOLDEN: sha256_of(copy.path / GOLDEN)}
    changed = replace(copy, manifest=copy.manifest.model_copy(update={"files": files}))
    with pytest.raises(BuildError, match="has golden vectors of another version"):
        quantize(start, [load_recipe("fp16")], PhotoSet("none", ()), "", tmp_path / "more", beside=changed)
