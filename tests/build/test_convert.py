from collections import Counter
from typing import Any

import numpy as np
import pytest
import tf_keras
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from build.convert import convert_int8, fake_quantize
from build.data import sample
from build.model import LayerWeights, Weights, network, set_weights, with_pixel_input
from build.ranges import INPUT_RANGE, Range, calibrate
from build.weights import Network
from service.bundle import Bundle
from service.inference.classifier import Classifier
from service.inference.image import load_pixels
from tests.build.conftest import CLASSES, REPRESENTATIVE, SIZE

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def representative(start: Network, calibration: Any) -> Pixels:
    """The very pixels that the small bundle was calibrated on."""
    photos = sample(calibration, REPRESENTATIVE).photos
    return np.stack([load_pixels(photo.path.read_bytes(), start.preprocessing) for photo in photos])


@pytest.fixture(scope="module")
def ranges(start: Network, representative: Pixels) -> dict[str, Range]:
    return calibrate(start.weights, representative)


@pytest.fixture(scope="module")
def ptq(small: Bundle) -> Interpreter:
    """The quantized file as it is, without a delegate that would replace its operators."""
    interpreter = Interpreter(
        str(small.variant_path("ptq")),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    return interpreter


@pytest.fixture(scope="module")
def fake_quantized(start: Network, ranges: dict[str, Range]) -> tf_keras.Model:
    """What is converted, with kernels at the values that int8 holds."""
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


def test_weights_have_a_scale_a_channel(ptq: Interpreter) -> None:
    weighted = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
    kernels = {op["inputs"][1] for op in ptq._get_ops_details() if op["op_name"] in weighted}
    assert len(kernels) == 75 + 16 + 1
    for kernel in (tensor for tensor in ptq.get_tensor_details() if tensor["index"] in kernels):
        quantization = kernel["quantization_parameters"]
        channels = kernel["shape"][quantization["quantized_dimension"]]
        assert len(quantization["scales"]) == channels > 1, kernel["name"]
        assert not quantization["zero_points"].any()


# The mean error in steps: a rounding now and then in the first layers adds up in a network of
# random weights, by one part in ten of what a tensor varies in the end.
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
def test_ptq_computes_what_the_fake_quantized_network_does(
    ptq: Interpreter, fake_quantized: tf_keras.Model, representative: Pixels, layer: str, most: float
) -> None:
    pixels = representative[:1]
    inner = tf_keras.Model(fake_quantized.input, fake_quantized.get_layer(f"{layer}_range").output)
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


def test_fp32_computes_what_the_network_does(small: Bundle, start: Network, representative: Pixels) -> None:
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
    assert convert_int8(start.weights, SIZE, ranges) == small.variant_path("ptq").read_bytes()


def test_a_tensor_in_its_range_is_rounded_and_outside_clipped() -> None:
    place = fake_quantize({"x": INPUT_RANGE})
    inputs = tf_keras.Input((5,))
    model = tf_keras.Model(inputs, place("x", None, inputs))
    step = 1 / 57.375
    values = np.array([[0, 0.4 * step, 0.6 * step, -100, 100]], np.float32)
    expected = [[0, 0, step, INPUT_RANGE.low, INPUT_RANGE.high]]
    np.testing.assert_allclose(model(values), expected, atol=1e-6)


def _rounded(weights: Weights) -> Weights:
    """Kernels at the values that int8 holds, a scale an output channel."""
    return {name: LayerWeights(_rounded_kernel(name, w.kernel), w.bias) for name, w in weights.items()}


def _rounded_kernel(name: str, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    channel = 2 if name.endswith("dwconv2") else kernel.ndim - 1
    others = tuple(axis for axis in range(kernel.ndim) if axis != channel)
    step = np.abs(kernel).max(axis=others, keepdims=True) / 127
    return np.round(kernel / step) * step
