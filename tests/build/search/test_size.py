import numpy as np
import pytest
from numpy.typing import NDArray

from build.errors import BuildError
from build.network.model import LayerWeights
from build.network.weights import Network
from build.packing import pack
from build.quantization.bias_correction import mean_inputs
from build.search.methods import uniform
from build.search.size import Packing, entropies, entropy_slopes, of_entropy, of_size, scaled
from service.bundle.folder import Bundle


@pytest.fixture(scope="module")
def packing(small: Bundle, start: Network, representative: NDArray[np.uint8]) -> Packing:
    means = mean_inputs(start.weights, list(start.weights), representative)
    return Packing(small.variant_path("ptq").read_bytes(), start.weights, means)


def layer(*values: float) -> LayerWeights:
    return LayerWeights(np.array(values, np.float32)[:, np.newaxis], np.zeros(1, np.float32))


def test_the_entropy_is_computed_from_the_frequencies_of_the_levels() -> None:
    weights = {"even": layer(0, 1, 2, 3), "one": layer(5, 5, 5, 5), "uneven": layer(0, 0, 0, 1)}
    steps = dict.fromkeys(weights, 1.0)
    assert entropies(weights, steps) == pytest.approx([4 * 2, 0, 3 * np.log2(4 / 3) + 2])


def test_a_layer_of_zeros_takes_no_bits() -> None:
    weights = {"zeros": layer(0, 0, 0, 0), "a": layer(1, 2, 3, 4)}
    assert entropies(weights, uniform(weights, 8)) == pytest.approx([0, 8], abs=0.01)


def test_the_entropy_falls_by_one_bit_per_weight_if_a_step_doubles() -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    weights, steps = {"a": layer(*values)}, {"a": 0.1}
    assert entropy_slopes(weights, steps) == pytest.approx([100_000 / np.log(2)], rel=0.01)
    # Gaussian values have 2.05 bits more than the binary logarithm of their deviation in steps.
    assert entropies(weights, steps) == pytest.approx([100_000 * (2.047 + np.log2(10))], rel=0.01)


def test_steps_are_scaled_by_one_factor_to_an_entropy(start: Network) -> None:
    steps = scaled(uniform(start.weights, 1e7), 3.0)
    found = of_entropy(start.weights, steps, 2e7)
    assert 0.99 * 2e7 < entropies(start.weights, found).sum() <= 2e7
    factors = [found[name] / steps[name] for name in start.weights]
    assert factors == pytest.approx([factors[0]] * len(factors))


def test_steps_are_scaled_to_a_size(packing: Packing, start: Network) -> None:
    found = of_size(packing, uniform(start.weights, 1e7), 2_000_000)
    assert 0.995 * 2_000_000 < packing.size(found) <= 2_000_000
    with pytest.raises(BuildError, match="takes more bytes than that with any weights"):
        of_size(packing, found, 10_000)


def test_a_size_above_that_of_int8_gives_the_finest_steps(packing: Packing, start: Network) -> None:
    found = of_size(packing, uniform(start.weights, 1e7), 20_000_000)
    assert packing.size(found) < 20_000_000
    finest = {name: float(np.abs(w.kernel).max()) / 127 for name, w in start.weights.items()}
    assert all(found[name] <= finest[name] for name in finest)


def test_the_size_is_about_that_of_the_packed_file(packing: Packing, start: Network) -> None:
    finest = {name: float(np.abs(w.kernel).max()) / 127 for name, w in start.weights.items()}
    assert 0.7 * len(pack(packing.content)) < packing.size(finest) < len(pack(packing.content))
