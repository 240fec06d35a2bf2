import pytest

from build.commands.estimate import estimate, forward_seconds, in_words
from build.network.weights import Network
from build.quantization.recipe import load_recipe
from build.training.schedule import OWN_CLASSES
from tests.build.conftest import SIZE

RECIPES = [load_recipe(name) for name in ("fp32", "ptq", "qat")]


def total(forward: float = 0.05, photos: int = 500, quantized_on: int = 500, tested: int = 100) -> float:
    return sum(estimate(forward, photos, quantized_on, tested, OWN_CLASSES, RECIPES).values())


def test_every_step_has_an_estimate() -> None:
    seconds = estimate(0.05, 500, 600, 100, OWN_CLASSES, RECIPES)
    assert list(seconds) == ["features", "train", "fp32", "ptq", "qat", "evaluate", "report"]
    assert all(took > 0 for took in seconds.values())
    assert seconds["fp32"] < seconds["ptq"] < seconds["qat"]


@pytest.mark.parametrize(
    "more", [{"forward": 0.1}, {"photos": 1000}, {"quantized_on": 1000}, {"tested": 1000}], ids=str
)
def test_more_work_takes_longer(more: dict[str, float]) -> None:
    assert total(**more) > total()  # type: ignore[arg-type]


def test_the_estimate_grows_with_the_epochs() -> None:
    recipe = RECIPES[2]
    assert recipe.training is not None
    longer = recipe.model_copy(
        update={"training": recipe.training.model_copy(update={"epochs": 2 * recipe.training.epochs})}
    )
    once, twice = (estimate(0.05, 500, 500, 100, OWN_CLASSES, [r])["qat"] for r in (recipe, longer))
    assert once < twice < 2 * once


def test_the_estimate_is_shown_in_one_line() -> None:
    line = in_words({"features": 60.0, "train": 840.0, "fp32": 10.0, "qat": 290.0})
    assert line == "about 20 min on this machine if nothing else runs on it: train 14 min, qat 5 min"
    assert in_words({"fp32": 3.0}) == "about 10 s on this machine if nothing else runs on it: fp32 10 s"


def test_a_forward_pass_is_timed(start: Network) -> None:
    assert 0 < forward_seconds(start.weights, SIZE) < 10
