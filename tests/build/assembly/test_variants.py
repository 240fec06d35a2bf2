from pathlib import Path

import pytest

from build.assembly.variants import quantize
from build.errors import BuildError
from build.network.weights import Network
from build.photos.data import PhotoSet, sample
from build.quantization.recipe import load_recipe
from service.inference.classifier import Classifier
from tests.build.conftest import REPRESENTATIVE


def test_a_recipe_of_the_wire_leaves_a_packed_variant(start: Network, tmp_path: Path) -> None:
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


def test_a_pattern_that_fits_no_layer_is_refused_before_any_recipe_is_made(
    start: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("build.assembly.variants.convert", lambda *_: pytest.fail("it was made"))
    recipes = [
        load_recipe("fp32"),
        load_recipe("ptq").model_copy(update={"weight_bits": {"blokc*": 4}}),
    ]
    with pytest.raises(BuildError, match=r"the weights' grids: blokc\* fits no layer of the network"):
        quantize(start, recipes, PhotoSet("none", ()), "python -m build quantize", tmp_path / "small")
