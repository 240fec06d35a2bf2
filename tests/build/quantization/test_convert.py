from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tf_keras
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from build.assembly.golden_outputs import FLOAT_TOLERANCE, INTEGER_TOLERANCE
from build.assembly.variants import quantize
from build.network.model import LayerWeights, Weights, network, set_weights, with_pixel_input
from build.network.weights import Network
from build.photos.data import sample
from build.quantization.convert import convert_int8, fake_quantize
from build.quantization.int8 import Int8Network
from build.quantization.ranges import INPUT_RANGE, Range
from build.quantization.recipe import load_recipe
from service.bundle.folder import Bundle
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate
from tests.build.conftest import CLASSES, REPRESENTATIVE, SIZE
from tests.build.quantization.interpreters import interpreter_without_delegate, kernels_of, mean_error
from tests.colours import golden_of
from tests.delegates import by_each_built_in

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def ptq(small: Bundle) -> Interpreter:
    return interpreter_without_delegate(small.variant_path("ptq"))


@pytest.fixture(scope="module")
def rounded(start: Network, ranges: dict[str, Range]) -> tf_keras.Model:
    """The network that is converted, with kernels rounded to the values that int8 can hold."""
    model = network(SIZE, len(CLASSES), fake_quantize(ranges))
    set_weights(model, _rounded(start.weights))
    return model


def test_ptq_is_int8_throughout(ptq: Interpreter) -> None:
    operators = Counter(operator["op_name"] for operator in ptq._get_ops_details())
    assert operators["QUANTIZE"] == 1  # Of the uint8 pixels.
    assert operators["DEQUANTIZE"] == 0
    assert operators["CONV_2D"] == 75
    types = {tensor["dtype"] for tensor in ptq.get_tensor_details()}
    assert types == {np.uint8, np.int8, np.int32}


def test_a_pixel_is_its_own_quantized_value(ptq: Interpreter) -> None:
    (input_,) = ptq.get_input_details()
    scale, zero_point = input_["quantization"]
    assert input_["dtype"] is np.uint8
    assert scale == pytest.approx(1 / 57.375, rel=1e-6)
    assert zero_point == 114


def test_weights_have_a_scale_per_channel(ptq: Interpreter) -> None:
    kernels = kernels_of(ptq)
    assert len(kernels) == 75 + 16 + 1
    for kernel in kernels:
        quantization = kernel["quantization_parameters"]
        channels = kernel["shape"][quantization["quantized_dimension"]]
        assert len(quantization["scales"]) == channels > 1, kernel["name"]
        assert not quantization["zero_points"].any()


# The mean error in steps. In a network of random weights, a few different roundings in the first layers
# add up, to a tenth of the variation of a tensor at the end.
@pytest.mark.parametrize(
    ("layer", "most"),
    [
        ("stem_activation_silu", 0.05),
        ("block3b_add", 2),
        ("block4a_se_squeeze", 2),
        ("block6h_add", 6),
        ("predictions", 15),
    ],
)
def test_ptq_computes_the_same_as_the_fake_quantized_network(
    ptq: Interpreter, rounded: tf_keras.Model, representative: Pixels, layer: str, most: float
) -> None:
    pixels = representative[:1]
    inner = tf_keras.Model(rounded.input, rounded.get_layer(f"{layer}_range").output)
    expected = inner((pixels.astype(np.float32) - 114) / 57.375).numpy()
    ptq.set_tensor(ptq.get_input_details()[0]["index"], pixels)
    ptq.invoke()
    (tensor,) = (
        tensor
        for tensor in ptq.get_tensor_details()
        if f"/{layer}/" in tensor["name"] and tuple(tensor["shape"]) == expected.shape
    )
    step, zero_point = tensor["quantization"]
    actual = step * (ptq.get_tensor(tensor["index"]).astype(np.float32) - zero_point)
    assert expected.std() > 25 * step
    assert np.abs(actual - expected).mean() < most * step


def test_fp32_computes_the_same_as_the_network(small: Bundle, start: Network, representative: Pixels) -> None:
    model = network(SIZE, len(CLASSES))
    set_weights(model, start.weights)
    expected = with_pixel_input(model)(representative.astype(np.float32)).numpy()
    classifier = Classifier(small, "fp32")
    actual = np.stack([classifier.scores(pixels) for pixels in representative])
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)


def test_a_second_conversion_gives_the_same_bytes(
    small: Bundle, start: Network, ranges: dict[str, Range]
) -> None:
    assert (
        convert_int8(Int8Network(start.weights, ranges, {}), SIZE) == small.variant_path("ptq").read_bytes()
    )


@pytest.fixture(scope="module")
def others(start: Network, calibration: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small network, quantized by recipes that the small bundle does not have."""
    naive = load_recipe("naive").model_copy(update={"representative_images": REPRESENTATIVE})
    recipes = [load_recipe("fp16"), load_recipe("dynamic"), naive]
    path = tmp_path_factory.mktemp("others") / "others"
    return quantize(start, recipes, sample(calibration, REPRESENTATIVE), "python -m build quantize", path)


@pytest.mark.parametrize(("name", "of_fp32"), [("fp16", 0.51), ("dynamic", 0.29), ("naive", 0.31)])
def test_the_size_of_a_variant_suits_the_bits_of_its_weights(
    small: Bundle, others: Bundle, name: str, of_fp32: float
) -> None:
    share = others.variant(name).bytes / small.variant("fp32").bytes
    assert of_fp32 - 0.02 < share < of_fp32 + 0.02


@pytest.mark.parametrize(("name", "most"), [("fp16", 0.002), ("dynamic", 0.06), ("naive", 0.15)])
@by_each_built_in
def test_a_variant_computes_about_the_same_as_fp32(
    small: Bundle, others: Bundle, representative: Pixels, name: str, most: float, delegate: Delegate
) -> None:
    fp32, variant = Classifier(small, "fp32"), Classifier(others, name, delegate)
    assert 0 < mean_error(fp32, variant, representative) < most


def test_the_golden_tolerance_of_dynamic_allows_for_other_kernels(others: Bundle) -> None:
    spread = golden_of(others)["dynamic"].std()
    assert others.variant("dynamic").golden.largest == pytest.approx(0.8 * spread, rel=0.05)
    assert others.variant("fp16").golden == FLOAT_TOLERANCE
    assert others.variant("naive").golden == INTEGER_TOLERANCE


def test_fp16_has_the_weights_rounded_to_float16(others: Bundle, start: Network) -> None:
    interpreter = interpreter_without_delegate(others.variant_path("fp16"))
    (kernel,) = (
        tensor
        for tensor in interpreter.get_tensor_details()
        if tensor["name"].endswith("/top_conv/Conv2D") and tensor["dtype"] is np.float16
    )
    expected = start.weights["top_conv"].kernel.transpose(3, 0, 1, 2).astype(np.float16)
    np.testing.assert_array_equal(interpreter.get_tensor(kernel["index"]), expected)


def test_dynamic_has_int8_weights_and_float_activations(others: Bundle) -> None:
    variant = others.variant("dynamic")
    assert (variant.input.dtype, variant.output.dtype) == ("float32", "float32")
    interpreter = interpreter_without_delegate(others.variant_path("dynamic"))
    kernels = kernels_of(interpreter)
    # The converter leaves the kernel of the stem in float, because it is small.
    assert [kernel["name"] for kernel in kernels if kernel["dtype"] is not np.int8] == [
        "efficientnetv2/efficientnetv2/stem_conv/Conv2D"
    ]
    assert len(kernels) == 75 + 16 + 1
    assert all(len(kernel["quantization_parameters"]["scales"]) > 1 for kernel in kernels[1:])
    outputs = [output for operator in interpreter._get_ops_details() for output in operator["outputs"]]
    types = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    assert np.int8 not in {types[output] for output in outputs}


def test_naive_takes_raw_pixels_whatever_the_photos(others: Bundle) -> None:
    tensor = others.variant("naive").input
    assert (tensor.dtype, tensor.scale, tensor.zero_point) == ("uint8", 1, 0)


def test_values_are_rounded_inside_the_range_and_clipped_outside() -> None:
    place = fake_quantize({"x": INPUT_RANGE})
    inputs = tf_keras.Input((5,))
    model = tf_keras.Model(inputs, place("x", None, inputs))
    step = 1 / 57.375
    values = np.array([[0, 0.4 * step, 0.6 * step, -100, 100]], np.float32)
    expected = [[0, 0, step, INPUT_RANGE.low, INPUT_RANGE.high]]
    np.testing.assert_allclose(model(values), expected, atol=1e-6)


def _rounded(weights: Weights) -> Weights:
    """Kernels rounded to the values that int8 can hold, with a scale per output channel."""
    return {name: LayerWeights(_rounded_kernel(name, w.kernel), w.bias) for name, w in weights.items()}


def _rounded_kernel(name: str, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    channel = 2 if name.endswith("dwconv2") else kernel.ndim - 1
    others = tuple(axis for axis in range(kernel.ndim) if axis != channel)
    step = np.abs(kernel).max(axis=others, keepdims=True) / 127
    return np.round(kernel / step) * step
