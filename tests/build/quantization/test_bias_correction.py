import numpy as np
import pytest
import tf_keras
from numpy.typing import NDArray

from build.network.model import LayerWeights, Weights, network, set_weights
from build.network.weights import Network
from build.quantization.bias_correction import correct_biases
from build.quantization.grids import grids_of, on_grids
from tests.build.conftest import CLASSES, SIZE

Floats = NDArray[np.float32]
POINTWISE = ("block2a_project_conv", "block4b_se_reduce", "block6h_expand_conv", "predictions")
SPATIAL = ("stem_conv", "block2b_expand_conv", "block5c_dwconv2")


@pytest.fixture(scope="module")
def inputs(start: Network, representative: NDArray[np.uint8]) -> dict[str, Floats]:
    """The inputs of layers in the float network."""
    model = network(SIZE, len(CLASSES))
    set_weights(model, start.weights)
    names = [*POINTWISE, *SPATIAL]
    taken = tf_keras.Model(model.input, [model.get_layer(name).input for name in names])
    pixels = (representative.astype(np.float32) - 114) / 57.375
    return {name: value.numpy() for name, value in zip(names, taken(pixels), strict=True)}


def shifts(weights: Weights, other: Weights, inputs: dict[str, Floats]) -> dict[str, Floats]:
    """How much the mean of each output channel of each layer differs between two sets of weights."""
    model = network(SIZE, len(CLASSES))

    def mean(name: str, layer: LayerWeights) -> Floats:
        keras = model.get_layer(name)
        keras.set_weights([layer.kernel, layer.bias])
        linear: Floats = keras(inputs[name]).numpy()
        return linear.mean(axis=tuple(range(linear.ndim - 1)))

    return {name: mean(name, other[name]) - mean(name, weights[name]) for name in inputs}


@pytest.mark.parametrize("large", [None, 0.02])
def test_with_corrected_biases_rounding_shifts_no_channels_mean(
    start: Network, representative: NDArray[np.uint8], inputs: dict[str, Floats], large: float | None
) -> None:
    grids = grids_of(start.weights, {"*": 3}, large=large)
    corrected = correct_biases(start.weights, grids, representative)
    before = shifts(start.weights, on_grids(start.weights, grids), inputs)
    after = shifts(start.weights, on_grids(corrected, grids), inputs)
    for name in POINTWISE:
        assert np.abs(after[name]).max() < 1e-3 * np.abs(before[name]).max(), name
    for name in SPATIAL:  # The correction ignores the zeros that pad the border.
        assert np.square(after[name]).mean() < 0.5 * np.square(before[name]).mean(), name


def test_only_biases_of_layers_with_a_grid_are_corrected(
    start: Network, representative: NDArray[np.uint8]
) -> None:
    corrected = correct_biases(start.weights, grids_of(start.weights, {"block6*": 3}), representative)
    assert corrected.keys() == start.weights.keys()
    for name, layer in corrected.items():
        assert (layer.kernel == start.weights[name].kernel).all(), name
        assert (layer.bias != start.weights[name].bias).any() == name.startswith("block6"), name
