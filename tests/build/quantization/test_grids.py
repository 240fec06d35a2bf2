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
    WRAPPED,
    _GridQuantizer,
    fake_quantized_network,
    trained_values,
)
from build.quantization.grids import Grid, bits_of, grids_of, levels_of, on_grids, store_levels
from build.quantization.int8 import Int8Network
from build.quantization.layer_check import check_layers
from build.quantization.layer_names import layer_of
from build.quantization.ranges import Range
from service.bundle.folder import Bundle, sha256_of
from tests.build.conftest import CLASSES, SIZE
from tests.build.quantization.stored import stored_biases, stored_kernels

BITS = {"stem_conv": 2, "*_dwconv2": 5, "block6*": 4, "predictions": 3}
STEP = 0.07


@pytest.fixture(scope="module")
def grids(start: Network) -> dict[str, Grid]:
    return (
        grids_of(start.weights, BITS)
        | grids_of(start.weights, steps={"block5*_expand_conv": STEP})
        | grids_of(start.weights, {"block4*_expand_conv": 3}, large=0.02)
    )


@pytest.fixture(scope="module")
def values(start: Network, ranges: dict[str, Range], grids: dict[str, Grid]) -> Int8Network:
    return Int8Network(start.weights, ranges, grids)


@pytest.fixture(scope="module")
def model(values: Int8Network) -> tf_keras.Model:
    return fake_quantized_network(values, SIZE)


@pytest.fixture(scope="module")
def content(values: Int8Network) -> bytes:
    return convert_int8(values, SIZE)


def test_the_first_matching_pattern_counts() -> None:
    assert bits_of("block6a_dwconv2", BITS) == 5
    assert bits_of("block6a_se_reduce", BITS) == 4
    assert bits_of("top_conv", BITS) == 8


def test_layers_with_fewer_than_8_bits_have_a_grid(start: Network, grids: Mapping[str, Grid]) -> None:
    assert {name: grid.bits for name, grid in grids_of(start.weights, BITS).items()} == {
        name: bits_of(name, BITS) for name in start.weights if bits_of(name, BITS) < 8
    }
    assert {grid.bits: grid.largest_level for grid in grids.values()} == {2: 1, 3: 3, 4: 7, 5: 15, 8: 127}
    for name, grid in grids.items():
        assert grid.step.shape == start.weights[name].bias.shape, name


def test_layers_with_a_given_step_have_it_in_all_channels(start: Network) -> None:
    grids = grids_of(start.weights, steps={"stem_conv": 0.5, "*_se_*": 0.25, "*": STEP})
    assert grids.keys() == start.weights.keys()
    for name, grid in grids.items():
        step = 0.5 if name == "stem_conv" else 0.25 if "_se_" in name else STEP
        assert (grid.step == np.float32(step)).all(), name


def test_a_step_grows_until_int8_can_hold_the_largest_level() -> None:
    kernel = np.array([[100.0, 3.0], [0.4, -2.0]], np.float32)
    layer = LayerWeights(kernel, np.zeros(2, np.float32))
    grid = grids_of({"a": layer}, steps={"a": 0.5})["a"]
    assert grid.step == pytest.approx([100 / 127, 0.5])
    assert levels_of(layer, grid).tolist() == [[127, 6], [1, -4]]


@pytest.mark.parametrize(("bits", "most"), [(2, 1), (3, 3), (4, 7)])
@pytest.mark.parametrize("share", [0.01, 0.05])
def test_the_share_of_large_weights_is_beyond_the_levels_of_the_bits(
    bits: int, most: int, share: float
) -> None:
    random = np.random.default_rng(bits)
    kernel = (random.laplace(size=(1, 1, 2000, 3)) * [1, 1e-3, 50]).astype(np.float32)
    layer = LayerWeights(kernel, np.zeros(3, np.float32))
    grid = grids_of({"a": layer}, {"a": bits}, large=share)["a"]
    levels = np.abs(levels_of(layer, grid)).reshape(-1, 3)
    assert ((levels > most).sum(0) == 2000 * share).all()
    # No weight is clipped.
    errors = np.abs(on_grids({"a": layer}, {"a": grid})["a"].kernel - kernel)
    assert (errors <= 0.5001 * grid.step).all()
    assert 1.5 * most < levels.max() < 127


def test_few_large_weights_are_kept_and_the_others_keep_their_levels() -> None:
    kernel = np.append(np.tile([-0.1, 0.05, 0.1], 330), 9 * [2.0]).astype(np.float32)[:, np.newaxis]
    layer = LayerWeights(kernel, np.zeros(1, np.float32))

    def rounded(large: float | None) -> NDArray[np.float32]:
        return on_grids({"a": layer}, grids_of({"a": layer}, {"a": 3}, large=large))["a"].kernel[:, 0]

    assert np.abs(rounded(0.01) - kernel[:, 0]).max() < 0.02
    # Without `large`, either these or the others are lost.
    assert np.abs(rounded(None) - kernel[:, 0]).max() > 0.04


def test_large_weights_beyond_the_levels_of_int8_make_the_step_larger() -> None:
    kernel = np.append(np.linspace(-1, 1, 999), 1000).astype(np.float32)[:, np.newaxis]
    layer = LayerWeights(kernel, np.zeros(1, np.float32))
    grid = grids_of({"a": layer}, {"a": 4}, large=0.01)["a"]
    assert grid.step == pytest.approx(1000 / 127)
    assert levels_of(layer, grid)[-1] == 127


def test_a_pattern_that_matches_no_layer_is_refused(start: Network) -> None:
    with pytest.raises(BuildError, match="the recipe's pattern blokc\\* matches no layer of the network"):
        grids_of(start.weights, {"blokc*": 4})
    with pytest.raises(BuildError, match="the recipe's pattern blokc\\* matches no layer of the network"):
        grids_of(start.weights, steps={"*": 0.1, "blokc*": 0.1})


def test_least_error_steps_are_better_than_steps_of_the_largest_value() -> None:
    kernel = np.random.default_rng(0).normal(size=(1, 1, 20_000, 3)).astype(np.float32)
    layer = LayerWeights(kernel, np.zeros(3, np.float32))
    found = grids_of({"a": layer}, {"a": 3})["a"]
    largest = Grid(3, np.abs(kernel).max((0, 1, 2)) / 3)

    def error(grid: Grid) -> NDArray[np.float32]:
        errors: NDArray[np.float32] = np.square(on_grids({"a": layer}, {"a": grid})["a"].kernel - kernel)
        return errors.mean((0, 1, 2))

    assert (error(found) < 0.9 * error(largest)).all()
    # The least error of Gaussian values on seven levels: Max, "Quantizing for minimum distortion", 1960.
    assert error(found) == pytest.approx(0.0469, rel=0.05)


def test_one_large_weight_does_not_cost_the_others_their_levels() -> None:
    kernel = np.append(np.tile([-0.1, 0.1], 500), 1.0).astype(np.float32)[:, np.newaxis]
    layer = LayerWeights(kernel, np.zeros(1, np.float32))
    grid = grids_of({"a": layer}, {"a": 2})["a"]
    assert grid.step == pytest.approx(0.1, rel=0.3)


@pytest.mark.parametrize("large", [None, 0.02])
def test_a_channel_of_zeros_stays_zero(large: float | None) -> None:
    kernel = np.zeros((3, 3, 2, 1), np.float32)
    kernel[..., 0, 0] = np.arange(9).reshape(3, 3) - 4
    layer = LayerWeights(kernel, np.ones(2, np.float32))
    grid = grids_of({"a": layer}, {"a": 4}, large=large)["a"]
    assert (grid.step > 0).all()
    assert not on_grids({"a": layer}, {"a": grid})["a"].kernel[..., 1, 0].any()


def test_the_fake_quantized_network_keeps_weights_and_grids(
    model: tf_keras.Model, values: Int8Network
) -> None:
    held = trained_values(model, SIZE, len(CLASSES))
    assert held.grids.keys() == values.grids.keys()
    for name, grid in held.grids.items():
        assert grid.bits == values.grids[name].bits
        assert (grid.step == values.grids[name].step).all(), name
    for name, layer in held.weights.items():
        assert (layer.kernel == values.weights[name].kernel).all(), name
        assert (layer.bias == values.weights[name].bias).all(), name


def test_the_file_has_the_levels_and_steps(content: bytes, values: Int8Network) -> None:
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


def test_fake_quantization_rounds_kernels_to_the_grid(model: tf_keras.Model, values: Int8Network) -> None:
    expected = on_grids(values.weights, values.grids)
    for name in values.grids:
        wrapper = model.get_layer(WRAPPED + name)
        quantizer = wrapper.quantize_config.kernel_quantizer(wrapper.layer)
        rounded = quantizer(tf.constant(values.weights[name].kernel), training=True, weights={}).numpy()
        apart = ~np.isclose(rounded, expected[name].kernel, rtol=1e-4, atol=1e-7)
        # A weight in the middle between two levels may round to either, since steps differ in the last digit.
        assert apart.mean() < 1e-4, name


def test_gradients_ignore_rounding_and_are_zero_for_clipped_weights() -> None:
    quantizer = _GridQuantizer(3, [0.5, 2.0], is_pruned=False, is_depthwise=False)
    kernel = tf.constant([[0.6, 1.0], [9.0, -9.0], [-0.2, 2.9]])
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        rounded = quantizer(kernel, True, {})
        total = tf.reduce_sum(rounded)
    assert rounded.numpy().tolist() == [[0.5, 0], [1.5, -6], [0, 2]]
    assert tape.gradient(total, kernel).numpy().tolist() == [[1, 1], [0, 0], [1, 1]]


def test_the_file_computes_the_same_as_the_fake_quantized_network(
    content: bytes, model: tf_keras.Model, representative: NDArray[np.uint8]
) -> None:
    """This includes biases: each is stored in steps of its channel's scale, and each layer is compared."""
    differences = check_layers(content, model, representative[0])
    assert len(differences) == 266


def test_the_bias_of_weights_that_are_almost_zero_is_stored(start: Network, ranges: dict[str, Range]) -> None:
    """For a layer of zeros, a channel of zeros, and a channel of tiny weights."""
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
    content = convert_int8(Int8Network(weights, ranges, grids_of(weights, {"*": 7})), SIZE)
    biases = stored_biases(content)
    for name, layer in layers.items():
        assert biases[name] == pytest.approx(layer.bias, rel=1e-3, abs=1e-3), name


def test_a_file_without_one_of_the_layers_is_refused(small: Bundle, values: Int8Network) -> None:
    content = small.variant_path("ptq").read_bytes()
    grids = {"block9a": values.grids["stem_conv"]}
    with pytest.raises(BuildError, match="the converted file has no kernel of the layer block9a"):
        store_levels(content, values.weights, grids)


def test_the_file_is_as_large_as_without_grids(content: bytes, small: Bundle) -> None:
    assert len(content) == small.variant("ptq").bytes
    assert schema.Model.GetRootAs(content, 0).Version() == 3


def test_without_grids_the_file_is_unchanged(small: Bundle, start: Network) -> None:
    content = small.variant_path("ptq").read_bytes()
    assert sha256_of(store_levels(content, start.weights, {})) == sha256_of(content)


def test_the_largest_bias_leaves_room_in_32_bits_and_is_still_precise(start: Network, small: Bundle) -> None:
    name = "block1a_project_conv"
    layer = LayerWeights(np.zeros_like(start.weights[name].kernel), np.full_like(start.weights[name].bias, 3))
    weights = start.weights | {name: layer}
    content = store_levels(
        small.variant_path("ptq").read_bytes(), weights, grids_of({name: layer}, {name: 7})
    )
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = model.subgraphs
    (operator,) = (
        operator
        for operator in graph.operators
        if layer_of(graph.tensors[operator.outputs[0]].name) == name and len(operator.inputs) == 3
    )
    stored = np.asarray(model.buffers[graph.tensors[operator.inputs[2]].buffer].data, np.uint8).view("<i4")
    assert 2**29 < stored.min() <= stored.max() <= 2**30


def test_weights_that_are_on_levels_already_stay_as_they_are() -> None:
    kernel = np.arange(-3, 4, dtype=np.float32)[:, np.newaxis] * np.array([[0.5, 8.0]], np.float32)
    layer = LayerWeights(kernel, np.zeros(2, np.float32))
    grid = grids_of({"a": layer}, {"a": 3})["a"]
    assert grid.step.tolist() == [0.5, 8]
    assert (on_grids({"a": layer}, {"a": grid})["a"].kernel == kernel).all()
