from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from build.network.model import LayerWeights, Weights
from build.network.weights import Network
from build.search.methods import differentiable, greedy, uniform
from build.search.noise import NoisyNetwork
from build.search.size import entropies, scaled

BITS = 3.5e7
LAST, FIRST = "predictions", "stem_conv"


@pytest.fixture(scope="module")
def soft(start: Network) -> Weights:
    """The small network with less confident answers, so that noise causes a loss; one layer is near zero."""
    head, unseen = start.weights[LAST], start.weights["block6c_project_conv"]
    return start.weights | {
        LAST: LayerWeights(head.kernel * 0.05, head.bias),
        "block6c_project_conv": LayerWeights(unseen.kernel * 0.01, unseen.bias * 0.01),
    }


@pytest.fixture(scope="module")
def noisy(soft: Weights, representative: NDArray[np.uint8]) -> NoisyNetwork:
    return NoisyNetwork(soft, np.concatenate([representative, representative[:4, :, ::-1]]))


@pytest.fixture(scope="module")
def uniform_steps(soft: Weights) -> Mapping[str, float]:
    return uniform(soft, BITS)


def mean_loss(noisy: NoisyNetwork, steps: Mapping[str, float]) -> float:
    return float(np.mean([noisy.loss(steps, seed) for seed in range(3)]))


def mean_slopes(noisy: NoisyNetwork, steps: Mapping[str, float]) -> Mapping[str, float]:
    slopes = np.mean([noisy.slopes(steps, seed) for seed in range(4)], axis=0)
    return dict(zip(steps, slopes.tolist(), strict=True))


def test_without_noise_there_is_no_loss_before_and_after_other_noise(
    noisy: NoisyNetwork, uniform_steps: dict[str, float]
) -> None:
    assert noisy.loss({}, seed=0) == pytest.approx(0, abs=1e-6)
    assert noisy.loss(uniform_steps, seed=0) > 0.001
    assert noisy.loss({}, seed=0) == pytest.approx(0, abs=1e-6)


def test_every_photo_counts_equally_whatever_the_size_of_the_last_batch(
    soft: Weights, representative: NDArray[np.uint8], uniform_steps: dict[str, float]
) -> None:
    """A photo has the same loss alone in the last batch as in 16 copies, with the same noise."""
    one = representative[:1, :, ::-1]
    sets = (representative, np.concatenate([representative, one]))
    first, both = (NoisyNetwork(soft, pixels).loss(uniform_steps, seed=0) for pixels in sets)
    full = NoisyNetwork(soft, np.concatenate([representative, one.repeat(16, axis=0)])).loss(
        uniform_steps, seed=0
    )
    last = 2 * full - first
    assert abs(last - first) > 0.05 * first
    assert both == pytest.approx((16 * first + last) / 17, rel=1e-4)


def test_losses_grow_as_the_square_of_small_steps_and_slopes_agree(
    noisy: NoisyNetwork, uniform_steps: dict[str, float]
) -> None:
    fine = scaled(uniform_steps, 1 / 8)
    assert mean_loss(noisy, scaled(fine, 2)) == pytest.approx(4 * mean_loss(noisy, fine), rel=0.3)
    slopes = mean_slopes(noisy, fine)
    assert slopes.keys() == uniform_steps.keys()
    assert sum(slopes.values()) == pytest.approx(2 * mean_loss(noisy, fine), rel=0.5)


def test_a_layer_without_a_step_has_no_slope(noisy: NoisyNetwork, uniform_steps: dict[str, float]) -> None:
    alone = "block4a_expand_conv"
    slopes = dict(
        zip(uniform_steps, noisy.slopes({alone: uniform_steps[alone]}, seed=0).tolist(), strict=True)
    )
    assert slopes.pop(alone) == pytest.approx(2 * mean_loss(noisy, {alone: uniform_steps[alone]}), rel=0.7)
    assert set(slopes.values()) == {0}


def test_uniform_gives_every_layer_the_same_number_of_levels(
    soft: Weights, uniform_steps: dict[str, float]
) -> None:
    levels = [np.abs(layer.kernel).max() / uniform_steps[name] for name, layer in soft.items()]
    assert levels == pytest.approx([levels[0]] * len(levels), rel=1e-5)
    assert entropies(soft, uniform_steps).sum() == pytest.approx(BITS, rel=0.01)


def test_gradients_give_important_layers_finer_steps_and_a_lower_loss(
    soft: Weights, noisy: NoisyNetwork, uniform_steps: dict[str, float]
) -> None:
    found = differentiable(soft, noisy, BITS)
    assert found.keys() == soft.keys()
    assert 0.99 * BITS < entropies(soft, found).sum() <= BITS
    assert mean_loss(noisy, found) < 0.5 * mean_loss(noisy, uniform_steps)
    assert found[FIRST] < uniform_steps[FIRST]


def test_greedy_steps_lose_less_than_uniform_steps(soft: Weights, noisy: NoisyNetwork) -> None:
    """Only a few layers are searched, because each needs one measurement per width."""
    some = {name: soft[name] for name in ("stem_conv", "block2a_expand_conv", "block6h_expand_conv", LAST)}
    bits = 5 * sum(layer.kernel.size for layer in some.values())
    uniform_steps = uniform(some, bits)
    found = greedy(some, noisy, bits)
    assert 0.99 * bits < entropies(some, found).sum() <= bits
    assert mean_loss(noisy, found) < 0.8 * mean_loss(noisy, uniform_steps)


def test_greedily_a_layer_of_zeros_can_not_be_made_coarser_for_the_others(
    soft: Weights, noisy: NoisyNetwork
) -> None:
    """The other one gets as few bits as asked, though none of the widths tried has so few."""
    dead = soft["block1a_project_conv"]
    some = {
        "stem_conv": soft["stem_conv"],
        "block1a_project_conv": LayerWeights(np.zeros_like(dead.kernel), dead.bias),
    }
    bits = 0.5 * soft["stem_conv"].kernel.size
    found = greedy(some, noisy, bits)
    assert 0.9 * bits < entropies(some, found).sum() <= bits
