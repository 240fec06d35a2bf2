from pathlib import Path

import pytest

from build.errors import BuildError
from build.recipe import RECIPES, ActivationType, WeightType, load_recipe
from service.manifest import Precision


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_recipe_that_comes_along_is_valid_and_named_as_its_file(path: Path) -> None:
    assert load_recipe(path.stem).name == path.stem


def test_ptq_is_int8_throughout() -> None:
    recipe = load_recipe("ptq")
    assert recipe.weights is WeightType.INT8_PER_CHANNEL
    assert recipe.activations is ActivationType.INT8
    assert recipe.precision is Precision.INT8


def test_a_path_names_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((RECIPES / "ptq.toml").read_text().replace('"ptq"', '"mine"'))
    assert load_recipe(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [("nope", "there is no recipe 'nope'; there are: fp32, ptq"), ("none.toml", "there is no recipe")],
)
def test_an_unknown_recipe_names_those_there_are(name: str, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        load_recipe(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "can't be read"),
        ('name = "a"\nweights = "int3"\nactivations = "int8"', "weights: Input should be"),
        ('name = "a"\nweights = "float32"\nactivations = "float32"\nbits = 8', "bits: Extra inputs"),
        ('name = "A b"\nweights = "float32"\nactivations = "float32"', "name: String should match"),
        ('name = "a"\nweights = "float32"\nactivations = "int8"', "must be both"),
        ('name = "a"\nweights = "int8-per-channel"\nactivations = "int8"', "must be above 0"),
        ('name = "a"\nweights = "float32"\nactivations = "float32"\nrepresentative_images = 5', "left out"),
    ],
)
def test_a_recipe_that_can_not_be_made_says_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(BuildError, match=message) as caught:
        load_recipe(str(path))
    assert "\n" not in str(caught.value)
