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
    """The small network, less sure of itself, so that there is a loss; one layer is next to nothing."""
    head, unseen = start.weights[LAST], start.weights["block6c_project_conv"]
    return start.weights | {
        LAST: LayerWeights(head.kernel * 0.05, head.bias),
        "block6c_project_conv": LayerWeights(unseen.kernel * 0.01, unseen.bias * 0.01),
    }


@pytest.fixture(scope="module")
def noisy(soft: Weights, representative: NDArray[np.uint8]) -> NoisyNetwork:
    return NoisyNetwork(soft, np.concatenate([representative, representative[:4, :, ::-1]]))


@pytest.fixture(scope="module")
def even(soft: Weights) -> Mapping[str, float]:
    return uniform(soft, BITS)


def mean_loss(noisy: NoisyNetwork, steps: Mapping[str, float]) -> float:
    return float(np.mean([noisy.loss(steps, seed) for seed in range(3)]))


def mean_slopes(noisy: NoisyNetwork, steps: Mapping[str, float]) -> Mapping[str, float]:
    slopes = np.mean([noisy.slopes(steps, seed) for seed in range(4)], axis=0)
    return dict(zip(steps, slopes.tolist(), strict=True))


def test_no_noise_loses_nothing_before_and_after_there_was_some(
    noisy: NoisyNetwork, even: dict[str, float]
) -> None:
    assert noisy.loss({}, seed=0) == pytest.approx(0, abs=1e-6)
    assert noisy.loss(even, seed=0) > 0.001
    assert noisy.loss({}, seed=0) == pytest.approx(0, abs=1e-6)


def test_every_photo_counts_as_much_whatever_the_last_batch_has(
    soft: Weights, representative: NDArray[np.uint8], even: dict[str, float]
) -> None:
    """16 copies in the last batch lose what the one does, by the same noise."""
    one = representative[:1, :, ::-1]
    sets = (representative, np.concatenate([representative, one]))
    first, both = (NoisyNetwork(soft, pixels).loss(even, seed=0) for pixels in sets)
    full = NoisyNetwork(soft, np.concatenate([representative, one.repeat(16, axis=0)])).loss(even, seed=0)
    last = 2 * full - first
    assert abs(last - first) > 0.05 * first
    assert both == pytest.approx((16 * first + last) / 17, rel=1e-4)


def test_a_loss_grows_as_the_square_of_small_steps_and_so_do_its_slopes(
    noisy: NoisyNetwork, even: dict[str, float]
) -> None:
    fine = scaled(even, 1 / 8)
    assert mean_loss(noisy, scaled(fine, 2)) == pytest.approx(4 * mean_loss(noisy, fine), rel=0.3)
    slopes = mean_slopes(noisy, fine)
    assert slopes.keys() == even.keys()
    assert sum(slopes.values()) == pytest.approx(2 * mean_loss(noisy, fine), rel=0.5)


def test_a_layer_without_a_step_has_no_slope(noisy: NoisyNetwork, even: dict[str, float]) -> None:
    alone = "block4a_expand_conv"
    slopes = dict(zip(even, noisy.slopes({alone: even[alone]}, seed=0).tolist(), strict=True))
    assert slopes.pop(alone) == pytest.approx(2 * mean_loss(noisy, {alone: even[alone]}), rel=0.7)
    assert set(slopes.values()) == {0}


def test_uniform_gives_every_layer_as_many_levels(soft: Weights, even: dict[str, float]) -> None:
    levels = [np.abs(layer.kernel).max() / even[name] for name, layer in soft.items()]
    assert levels == pytest.approx([levels[0]] * len(levels), rel=1e-5)
    assert entropies(soft, even).sum() == pytest.approx(BITS, rel=0.01)


def test_by_the_gradient_layers_that_matter_get_finer_steps_and_less_is_lost(
    soft: Weights, noisy: NoisyNetwork, even: dict[str, float]
) -> None:
    found = differentiable(soft, noisy, BITS)
    assert found.keys() == soft.keys()
    assert 0.99 * BITS < entropies(soft, found).sum() <= BITS
    assert mean_loss(noisy, found) < 0.5 * mean_loss(noisy, even)
    assert found[FIRST] < even[FIRST]


def test_greedily_less_is_lost_than_by_as_many_levels_everywhere(soft: Weights, noisy: NoisyNetwork) -> None:
    """Of a few layers, the others exact: each takes a measurement a width."""
    some = {name: soft[name] for name in ("stem_conv", "block2a_expand_conv", "block6h_expand_conv", LAST)}
    bits = 5 * sum(layer.kernel.size for layer in some.values())
    even = uniform(some, bits)
    found = greedy(some, noisy, bits)
    assert 0.99 * bits < entropies(some, found).sum() <= bits
    assert mean_loss(noisy, found) < 0.8 * mean_loss(noisy, even)
