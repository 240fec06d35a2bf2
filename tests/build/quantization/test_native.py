"""int4 weights and int16 activations of LiteRT, in files of the small network."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from build.assembly.golden_outputs import FLOAT_TOLERANCE, INTEGER_TOLERANCE
from build.assembly.variants import quantize
from build.errors import BuildError
from build.network.model import LayerWeights
from build.network.weights import Network
from build.photos.data import sample
from build.quantization.bias_correction import correct_biases
from build.quantization.convert import convert
from build.quantization.grids import grids_of, on_grids
from build.quantization.layer_names import layer_of
from build.quantization.recipe import RECIPES, Recipe, load_recipe
from service.bundle.folder import Bundle, sha256_of
from service.bundle.manifest import LABELS, Precision
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate
from tests.build.assembly.conftest import imported
from tests.build.conftest import REPRESENTATIVE, SIZE
from tests.build.quantization.interpreters import mean_error
from tests.colours import golden_of
from tests.delegates import by_each_built_in

Pixels = NDArray[np.uint8]
INT4 = ("int4-weights", "int4-dynamic", "int4")
NAMES = (*INT4, "int16x8")
by_each_int4 = pytest.mark.parametrize("name", INT4)


def recipe_of(name: str) -> Recipe:
    recipe = load_recipe(str(RECIPES / "native" / f"{name}.toml"))
    wanted = REPRESENTATIVE if recipe.representative_images else 0
    return recipe.model_copy(update={"representative_images": wanted})


def test_a_recipe_that_leaves_no_layer_at_4_bits_is_refused(start: Network) -> None:
    recipe = recipe_of("int4").model_copy(update={"weight_bits": {"*": 8}})
    with pytest.raises(BuildError, match="int4 leaves no layer at 4 bits"):
        convert(recipe, start.weights, SIZE, np.zeros((1, SIZE, SIZE, 3), np.uint8))


@pytest.fixture(scope="module")
def native(start: Network, calibration: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small network, quantized by each of the native recipes."""
    recipes = [recipe_of(name) for name in NAMES]
    path = tmp_path_factory.mktemp("native") / "native"
    return quantize(start, recipes, sample(calibration, REPRESENTATIVE), "python -m build quantize", path)


@pytest.mark.parametrize(
    ("name", "of_fp32"), [("int4-weights", 0.17), ("int4-dynamic", 0.17), ("int4", 0.19), ("int16x8", 0.33)]
)
def test_the_size_of_a_variant_suits_the_bits_of_its_weights(
    small: Bundle, native: Bundle, name: str, of_fp32: float
) -> None:
    share = native.variant(name).bytes / small.variant("fp32").bytes
    assert of_fp32 - 0.02 < share < of_fp32 + 0.02


@pytest.mark.parametrize(
    ("name", "most"), [("int4-weights", 0.5), ("int4-dynamic", 0.5), ("int4", 0.5), ("int16x8", 0.05)]
)
@by_each_built_in
def test_a_variant_computes_about_the_same_as_fp32(
    small: Bundle, native: Bundle, representative: Pixels, name: str, most: float, delegate: Delegate
) -> None:
    fp32, variant = Classifier(small, "fp32"), Classifier(native, name, delegate)
    assert 0 < mean_error(fp32, variant, representative) < most


@by_each_int4
def test_weights_have_4_bits_except_in_depthwise_and_kept_layers(native: Bundle, name: str) -> None:
    kernels = kernels_of(native.variant_path(name).read_bytes())
    assert len(kernels) == 75 + 16 + 1
    kept = {layer for layer in kernels if re.match(r"stem_conv$|block[123]|.*_dwconv2$", layer)}
    assert len(kept) == 10 + 16
    assert {layer for layer, kernel in kernels.items() if kernel.type == schema.TensorType.INT8} == kept
    assert {layer for layer, kernel in kernels.items() if kernel.type == schema.TensorType.INT4} == (
        kernels.keys() - kept
    )


@by_each_int4
def test_kernels_are_on_the_grid_of_least_error_or_rounded_to_8_bits(
    native: Bundle, start: Network, name: str
) -> None:
    content = native.variant_path(name).read_bytes()
    grids = grids_of(start.weights, {"top_conv": 4, "block4a_se_reduce": 4})
    rounded = on_grids(start.weights, grids)
    for layer in ("top_conv", "block4a_se_reduce"):
        kernel = rounded[layer].kernel.transpose(3, 0, 1, 2)
        np.testing.assert_allclose(values_of(content, layer), kernel, atol=1e-5)
        assert np.unique(kernel[0]).size <= 15
    kernel = start.weights["block2a_expand_conv"].kernel.transpose(3, 0, 1, 2)
    steps = np.abs(kernel).max((1, 2, 3), keepdims=True) / 127
    expected = np.round(kernel / steps) * steps
    np.testing.assert_allclose(values_of(content, "block2a_expand_conv"), expected, atol=1e-5)


@by_each_int4
def test_biases_compensate_for_the_rounding_to_4_bits(
    native: Bundle, start: Network, representative: Pixels, name: str
) -> None:
    content = native.variant_path(name).read_bytes()
    layers = ("top_conv", "block4a_se_reduce", "block6h_project_conv")
    corrected = correct_biases(
        start.weights, grids_of(start.weights, dict.fromkeys(layers, 4)), representative
    )
    for layer in layers:
        moved = np.abs(corrected[layer].bias - start.weights[layer].bias).max()
        np.testing.assert_allclose(bias_of(content, layer), corrected[layer].bias, atol=0.01 * moved)


def test_biases_are_unchanged_without_representative_photos(start: Network) -> None:
    recipe = recipe_of("int4-weights").model_copy(update={"representative_images": 0})
    content = convert(recipe, start.weights, SIZE, np.empty((0, SIZE, SIZE, 3), np.uint8))
    np.testing.assert_allclose(bias_of(content, "top_conv"), start.weights["top_conv"].bias, rtol=1e-6)


def test_only_the_int4_weights_variant_dequantizes_its_weights(native: Bundle) -> None:
    operators = {name: native.variant(name).operators.get("DEQUANTIZE", 0) for name in NAMES}
    assert operators == {"int4-weights": 92, "int4-dynamic": 0, "int4": 0, "int16x8": 1}


def test_int4_takes_raw_pixels_and_has_the_activation_ranges_of_ptq(small: Bundle, native: Bundle) -> None:
    input_ = native.variant("int4").input
    assert (input_.dtype, input_.zero_point) == ("int8", 114 - 128)
    assert input_.scale == pytest.approx(1 / 57.375, rel=1e-6)
    ptq, int4 = (scales_of(bundle, name) for bundle, name in ((small, "ptq"), (native, "int4")))
    assert len(int4) > 250
    assert {layer: ptq[layer] for layer in int4} == pytest.approx(int4, rel=1e-5)


def test_int16_activations_are_int16_throughout(native: Bundle) -> None:
    variant = native.variant("int16x8")
    assert (variant.input.dtype, variant.output.dtype) == ("float32", "float32")
    graph = graph_of(native.variant_path("int16x8").read_bytes())
    between = [graph.tensors[operator.outputs[0]].type for operator in graph.operators[:-1]]
    assert set(between) == {schema.TensorType.INT16}
    kernels = kernels_of(native.variant_path("int16x8").read_bytes())
    assert {kernel.type for kernel in kernels.values()} == {schema.TensorType.INT8}


def test_the_manifest_has_the_precision_of_each_variant(native: Bundle) -> None:
    assert {name: native.variant(name).precision for name in NAMES} == {
        "int4-weights": Precision.INT4,
        "int4-dynamic": Precision.INT4,
        "int4": Precision.INT4,
        "int16x8": Precision.INT16X8,
    }


def test_the_golden_tolerance_allows_for_differences_between_kernels(native: Bundle) -> None:
    spread = golden_of(native)["int4-dynamic"].std()
    assert native.variant("int4-dynamic").golden.largest == pytest.approx(0.8 * spread, rel=0.05)
    assert native.variant("int4-weights").golden == FLOAT_TOLERANCE
    assert native.variant("int4").golden == INTEGER_TOLERANCE
    assert native.variant("int16x8").golden == FLOAT_TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_an_import_of_a_variant_has_the_same_precision_and_golden_tolerance(
    native: Bundle, tmp_path: Path, name: str
) -> None:
    # With the same filter, so that both have the same golden pixels.
    filter_ = native.manifest.preprocessing.filter
    bundle = imported(
        native.variant_path(name), tmp_path / "bundle", labels=native.path / LABELS, filter=filter_
    )
    made, again = native.variant(name), bundle.variant(name)
    assert (again.precision, again.golden) == (made.precision, made.golden)


def test_a_second_conversion_gives_the_same_bytes(
    native: Bundle, start: Network, representative: Pixels
) -> None:
    again = convert(recipe_of("int4-weights"), start.weights, SIZE, representative)
    assert sha256_of(again) == native.variant("int4-weights").sha256


def test_a_bias_that_does_not_fit_beside_its_weights_is_refused(
    start: Network, representative: Pixels
) -> None:
    layer = start.weights["block6a_project_conv"]
    kernel, bias = layer.kernel.copy(), layer.bias.copy()
    kernel[..., 3], bias[3] = 1e-9 * kernel[..., 3], 1
    weights = start.weights | {"block6a_project_conv": LayerWeights(kernel, bias)}
    with pytest.raises(BuildError, match=r"^block6a_project_conv has a channel whose weights are"):
        convert(recipe_of("int4"), weights, SIZE, representative[:1])


def graph_of(content: bytes) -> Any:
    return schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0]


def kernels_of(content: bytes) -> dict[str, Any]:
    """The kernel tensor of each layer, by its name; the stored tensor if it is dequantized first."""
    return {layer: kernel for layer, (kernel, _) in parameters_of(content).items()}


def parameters_of(content: bytes) -> dict[str, tuple[Any, Any]]:
    """The kernel tensor of each layer, as in `kernels_of`, and the bias tensor."""
    graph = graph_of(content)
    codes = [code.builtinCode for code in schema.ModelT.InitFromPackedBuf(content, 0).operatorCodes]
    unpacked = {
        operator.outputs[0]: operator.inputs[0]
        for operator in graph.operators
        if codes[operator.opcodeIndex] == schema.BuiltinOperator.DEQUANTIZE
    }
    weighted = {
        schema.BuiltinOperator.CONV_2D,
        schema.BuiltinOperator.DEPTHWISE_CONV_2D,
        schema.BuiltinOperator.FULLY_CONNECTED,
    }
    inputs = [op.inputs[1:] for op in graph.operators if codes[op.opcodeIndex] in weighted]
    tensors = [
        (graph.tensors[unpacked.get(kernel, kernel)], graph.tensors[unpacked.get(bias, bias)])
        for kernel, bias in inputs
    ]
    return {layer_of(kernel.name): (kernel, bias) for kernel, bias in tensors}


def bias_of(content: bytes, layer: str) -> NDArray[np.float64]:
    """The bias of a layer in float: as stored in float32, or int32 numbers times their scales."""
    _, bias = parameters_of(content)[layer]
    buffer = schema.ModelT.InitFromPackedBuf(content, 0).buffers[bias.buffer]
    # Large values are stored after the model, not within it.
    behind = content[buffer.offset : buffer.offset + buffer.size]
    data = behind if buffer.data is None else buffer.data.tobytes()
    if bias.type == schema.TensorType.FLOAT32:
        return np.frombuffer(data, np.float32).astype(np.float64)
    assert bias.type == schema.TensorType.INT32
    values: NDArray[np.float64] = np.frombuffer(data, np.int32) * np.asarray(bias.quantization.scale)
    return values


def values_of(content: bytes, layer: str) -> NDArray[np.float32]:
    """The kernel of a layer in float. 4-bit numbers are stored two in a byte, the lower half first."""
    kernel = kernels_of(content)[layer]
    buffer = schema.ModelT.InitFromPackedBuf(content, 0).buffers[kernel.buffer]
    # They are stored after the model, not within it.
    data = np.frombuffer(content, np.int8, buffer.size, buffer.offset)
    if kernel.type == schema.TensorType.INT4:
        data = np.stack([data << 4 >> 4, data >> 4], axis=-1)
    values = data.reshape(kernel.shape).astype(np.float32)
    scales: NDArray[np.float32] = np.asarray(kernel.quantization.scale).reshape(-1, 1, 1, 1)
    return scales * values


def scales_of(bundle: Bundle, name: str) -> dict[str, float]:
    """The step of each layer's output, by the layer's name."""
    graph = graph_of(bundle.variant_path(name).read_bytes())
    outputs = [graph.tensors[operator.outputs[0]] for operator in graph.operators]
    return {
        layer_of(tensor.name): float(tensor.quantization.scale[0])
        for tensor in outputs
        if layer_of(tensor.name)
    }
