from collections.abc import Mapping

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from build.errors import BuildError
from build.network.model import LayerWeights
from build.network.weights import Network
from build.quantization.convert import convert_int8
from build.quantization.fake_quantization import (
    _GRID_STEP,
    WRAPPED,
    TrainedValues,
    _GridQuantizer,
    fake_quantized_network,
    trained_values,
)
from build.quantization.grids import Grid, bits_of, least_error_grids, levels_of, on_grids, store_levels
from build.quantization.layer_check import check_layers
from build.quantization.ranges import Range
from service.bundle import Bundle
from tests.build.conftest import CLASSES, SIZE
from tests.build.quantization.test_fake_quantization import stored_biases, stored_kernels

BITS = {"stem_conv": 2, "*_dwconv2": 5, "block6*": 4, "predictions": 3}
RATE = 10.0


@pytest.fixture(scope="module")
def grids(start: Network) -> dict[str, Grid]:
    return least_error_grids(start.weights, BITS)


@pytest.fixture(scope="module")
def trained(start: Network, ranges: dict[str, Range], grids: Mapping[str, Grid]) -> tf_keras.Model:
    """The network as it may be after training: each channel's step up to a quarter larger or smaller."""
    model = fake_quantized_network(start.weights, SIZE, ranges, grids, RATE)
    random = np.random.default_rng(0)
    for weight in model.weights:
        if _GRID_STEP in weight.name:
            weight.assign(random.uniform(-0.25, 0.25, weight.shape) / RATE)
    return model


@pytest.fixture(scope="module")
def values(trained: tf_keras.Model) -> TrainedValues:
    return trained_values(trained, SIZE, len(CLASSES))


@pytest.fixture(scope="module")
def content(values: TrainedValues) -> bytes:
    return convert_int8(values.weights, SIZE, values.ranges, values.grids)


def test_the_first_pattern_that_fits_counts() -> None:
    assert bits_of("block6a_dwconv2", BITS) == 5
    assert bits_of("block6a_se_reduce", BITS) == 4
    assert bits_of("top_conv", BITS) == 8


def test_layers_with_fewer_than_8_bits_have_a_grid(start: Network, grids: Mapping[str, Grid]) -> None:
    assert {name: grid.bits for name, grid in grids.items()} == {
        name: bits_of(name, BITS) for name in start.weights if bits_of(name, BITS) < 8
    }
    assert {grid.bits: grid.largest_level for grid in grids.values()} == {2: 1, 3: 3, 4: 7, 5: 15}
    for name, grid in grids.items():
        assert grid.step.shape == start.weights[name].bias.shape, name


def test_a_pattern_that_fits_no_layer_is_refused(start: Network) -> None:
    with pytest.raises(BuildError, match="weight_bits: blokc\\* fits no layer of the network"):
        least_error_grids(start.weights, {"blokc*": 4})


def test_steps_err_less_than_those_of_the_largest_value() -> None:
    kernel = np.random.default_rng(0).normal(size=(1, 1, 20_000, 3)).astype(np.float32)
    layer = LayerWeights(kernel, np.zeros(3, np.float32))
    found = least_error_grids({"a": layer}, {"a": 3})["a"]
    largest = Grid(3, np.abs(kernel).max((0, 1, 2)) / 3)

    def error(grid: Grid) -> NDArray[np.float32]:
        errors: NDArray[np.float32] = np.square(on_grids({"a": layer}, {"a": grid})["a"].kernel - kernel)
        return errors.mean((0, 1, 2))

    assert (error(found) < 0.9 * error(largest)).all()
    # What Gaussian values lose on seven levels at best: Max, "Quantizing for minimum distortion", 1960.
    assert error(found) == pytest.approx(0.0469, rel=0.05)


def test_one_large_weight_does_not_cost_the_others_their_levels() -> None:
    kernel = np.append(np.tile([-0.1, 0.1], 500), 1.0).astype(np.float32)[:, np.newaxis]
    layer = LayerWeights(kernel, np.zeros(1, np.float32))
    grid = least_error_grids({"a": layer}, {"a": 2})["a"]
    assert grid.step == pytest.approx(0.1, rel=0.3)


def test_a_channel_of_zeros_stays_zero() -> None:
    kernel = np.zeros((3, 3, 2, 1), np.float32)
    kernel[..., 0, 0] = np.arange(9).reshape(3, 3) - 4
    layer = LayerWeights(kernel, np.ones(2, np.float32))
    grid = least_error_grids({"a": layer}, {"a": 4})["a"]
    assert (grid.step > 0).all()
    assert not on_grids({"a": layer}, {"a": grid})["a"].kernel[..., 1, 0].any()


def test_steps_are_learned(values: TrainedValues, grids: Mapping[str, Grid]) -> None:
    assert values.grids.keys() == grids.keys()
    for name, grid in values.grids.items():
        ratios = grid.step / grids[name].step
        assert grid.bits == grids[name].bits
        assert (np.exp(-0.2501) < ratios).all(), name
        assert (ratios < np.exp(0.2501)).all(), name
        assert len(np.unique(ratios)) > 1, name


def test_the_file_has_the_levels_and_steps(content: bytes, values: TrainedValues) -> None:
    stored = stored_kernels(content)
    assert stored.keys() == values.weights.keys()
    for name, (integers, scales) in stored.items():
        if name not in values.grids:
            assert np.abs(integers).max() == 127, name
            continue
        grid = values.grids[name]
        assert (scales == grid.step).all(), name
        kernel = integers.reshape(values.weights[name].kernel.shape)
        assert (kernel == levels_of(values.weights[name], grid)).all(), name
        assert len(np.unique(kernel)) > 1, name


def test_fake_quantization_rounds_kernels_to_the_grid(trained: tf_keras.Model, values: TrainedValues) -> None:
    expected = on_grids(values.weights, values.grids)
    for name in values.grids:
        wrapper = trained.get_layer(WRAPPED + name)
        quantizer = wrapper.quantize_config.kernel_quantizer(wrapper.layer)
        steps = {_GRID_STEP: next(w for w in wrapper.weights if _GRID_STEP in w.name)}
        rounded = quantizer(tf.constant(values.weights[name].kernel), training=True, weights=steps).numpy()
        apart = ~np.isclose(rounded, expected[name].kernel, rtol=1e-4, atol=1e-7)
        # A weight in the very middle of two levels: a step differs in its last digit.
        assert apart.mean() < 1e-4, name


def test_gradients_are_those_of_learned_step_sizes() -> None:
    """A weight's passes its rounding by and ends where it is clipped; a step sees both."""
    quantizer = _GridQuantizer(3, [0.5, 2.0], RATE, is_depthwise=False)
    kernel = tf.constant([[0.6, 1.0], [9.0, -9.0], [-0.2, 2.9]])
    logarithms = tf.zeros(2)
    with tf.GradientTape() as tape:
        tape.watch([kernel, logarithms])
        total = tf.reduce_sum(quantizer(kernel, True, {_GRID_STEP: logarithms}))
    by_kernel, by_logarithm = tape.gradient(total, [kernel, logarithms])
    assert by_kernel.numpy().tolist() == [[1, 1], [0, 0], [1, 1]]
    first = 0.5 * ((1 - 1.2) + 3 + (0 + 0.4))
    second = 2.0 * ((0 - 0.5) - 3 + (1 - 1.45))
    assert by_logarithm.numpy() == pytest.approx([RATE * first, RATE * second], rel=1e-5)


def test_the_file_computes_what_the_fake_quantized_network_does(
    content: bytes, trained: tf_keras.Model, representative: NDArray[np.uint8]
) -> None:
    """Biases included: each is stored in steps of its channel's scale, and layers are compared one by one."""
    differences = check_layers(content, trained, representative[0])
    assert len(differences) == 266


def test_a_bias_fits_beside_weights_that_are_next_to_nothing(
    start: Network, ranges: dict[str, Range]
) -> None:
    """Of a layer of zeros, of a channel of zeros, and of one of small weights."""
    zeros, some = "block2b_expand_conv", "block1a_project_conv"
    layers = {
        name: LayerWeights(start.weights[name].kernel.copy(), start.weights[name].bias.copy())
        for name in (zeros, some)
    }
    layers[zeros].kernel[:] = 0
    layers[some].kernel[..., 0] = 0
    layers[some].kernel[..., 1] *= 1e-6
    layers[some].bias[:2] = 3, -3
    weights = start.weights | layers
    content = convert_int8(weights, SIZE, ranges, least_error_grids(weights, {"*": 7}))
    biases = stored_biases(content)
    for name, layer in layers.items():
        assert biases[name] == pytest.approx(layer.bias, rel=1e-3, abs=1e-3), name


def test_a_file_without_one_of_the_layers_is_refused(small: Bundle, values: TrainedValues) -> None:
    content = small.variant_path("ptq").read_bytes()
    grids = {"block9a": values.grids["stem_conv"]}
    with pytest.raises(BuildError, match="the converted file has no kernel of the layer block9a"):
        store_levels(content, values.weights, grids)


def test_the_file_is_as_large_as_without_grids(content: bytes, small: Bundle) -> None:
    assert len(content) == small.variant("ptq").bytes
    assert schema.Model.GetRootAs(content, 0).Version() == 3


def test_no_grids_change_nothing(small: Bundle, start: Network) -> None:
    content = small.variant_path("ptq").read_bytes()
    assert store_levels(content, start.weights, {}) == content
