from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from build.errors import BuildError
from build.network.model import Site, network, set_weights
from build.network.weights import Network
from build.quantization.convert import _converter, convert, fake_quantize
from build.quantization.layer_check import MOST_STEPS, check_layers
from build.quantization.ranges import Range
from build.quantization.recipe import load_recipe
from service.bundle.folder import Bundle
from tests.build.conftest import CLASSES, SIZE

Pixels = NDArray[np.uint8]


def refused(content: bytes, model: tf_keras.Model, pixels: Pixels) -> str:
    """Check that a file is refused in one line; return that line."""
    with pytest.raises(BuildError) as caught:
        check_layers(content, model, pixels)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edited(content: bytes, layer: str, change: Callable[[Any, Any, Any], None]) -> bytes:
    """The file with one operator changed; `change` gets the file's model, its graph and the operator."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = model.subgraphs
    (operator,) = (
        operator
        for operator in graph.operators
        if f"/{layer}/" in graph.tensors[operator.outputs[0]].name.decode().split(";")[0]
    )
    change(model, graph, operator)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def other_weights(model: Any, graph: Any, operator: Any) -> None:
    """Give each output channel the kernel of the one before."""
    kernel = graph.tensors[operator.inputs[1]]
    values = np.asarray(model.buffers[kernel.buffer].data, np.uint8).reshape(kernel.shape)
    axis = kernel.quantization.quantizedDimension
    model.buffers[kernel.buffer].data = np.roll(values, 1, axis).reshape(-1)


def other_bias(model: Any, graph: Any, operator: Any) -> None:
    bias = graph.tensors[operator.inputs[2]]
    values = np.array(model.buffers[bias.buffer].data, np.uint8).view(np.int32)
    model.buffers[bias.buffer].data = (-values).view(np.uint8)


def slightly_other_bias(model: Any, graph: Any, operator: Any) -> None:
    """A bias that is larger by one and a half steps of the output, so that some outputs are by two."""
    bias, output = graph.tensors[operator.inputs[2]], graph.tensors[operator.outputs[0]]
    values = np.array(model.buffers[bias.buffer].data, np.uint8).view(np.int32)
    moved = values + np.round(1.5 * output.quantization.scale[0] / np.asarray(bias.quantization.scale))
    model.buffers[bias.buffer].data = moved.astype(np.int32).view(np.uint8)


def other_step(_model: Any, graph: Any, operator: Any) -> None:
    """Make the range wider by a tenth."""
    quantization = graph.tensors[operator.outputs[0]].quantization
    quantization.scale = np.asarray(quantization.scale, np.float32) * np.float32(1.1)


def slightly_other_step(_model: Any, graph: Any, operator: Any) -> None:
    """A range that is wider by a thousandth: the last levels are off by a fraction of a step."""
    quantization = graph.tensors[operator.outputs[0]].quantization
    quantization.scale = np.asarray(quantization.scale, np.float32) * np.float32(1.001)


def other_zero_point(_model: Any, graph: Any, operator: Any) -> None:
    quantization = graph.tensors[operator.outputs[0]].quantization
    quantization.zeroPoint = np.asarray(quantization.zeroPoint, np.int64) + 60


def other_name(_model: Any, graph: Any, operator: Any) -> None:
    graph.tensors[operator.outputs[0]].name = b"efficientnetv2/something/else"


@pytest.fixture(scope="module")
def ptq(small: Bundle) -> bytes:
    return small.variant_path("ptq").read_bytes()


def test_a_file_of_the_same_weights_and_ranges_passes(
    ptq: bytes, fake_quantized: tf_keras.Model, representative: Pixels
) -> None:
    differences = check_layers(ptq, fake_quantized, representative[0])
    layers = {layer.name.removeprefix("quant_") for layer in fake_quantized.layers if layer.weights}
    assert {difference.layer for difference in differences} == layers
    assert all(0 <= difference.steps <= MOST_STEPS for difference in differences)
    assert any(difference.steps > 0.9 for difference in differences)


@pytest.mark.parametrize(
    ("layer", "change", "message"),
    [
        (
            "stem_conv",
            other_weights,
            "does not match the fake-quantized network: stem_conv is ",
        ),
        ("block4a_dwconv2", other_weights, "fake-quantized network: block4a_dwconv2 is "),
        ("block4a_se_reduce", other_weights, "fake-quantized network: block4a_se_reduce is "),
        ("predictions", other_weights, "fake-quantized network: predictions is "),
        ("block3b_project_conv", other_bias, "fake-quantized network: block3b_project_conv is "),
        ("block3b_project_conv", slightly_other_bias, "fake-quantized network: block3b_project_conv is "),
        ("block2b_expand_activation_silu", other_step, "block2b_expand_activation_silu has another range"),
        ("block3b_add", other_step, "block3b_add has another range"),
        ("block3b_add", slightly_other_step, "block3b_add has another range"),
        ("avg_pool", other_step, "avg_pool has another range"),
        ("predictions", other_step, "predictions has another range"),
        ("stem_activation_silu", other_zero_point, "fake-quantized network: stem_activation_silu is "),
        ("block4a_se_squeeze", other_name, "lacks 1 of the layers, the first block4a_se_squeeze"),
    ],
)
def test_a_file_that_computes_something_else_is_refused_with_the_layer(
    ptq: bytes,
    fake_quantized: tf_keras.Model,
    representative: Pixels,
    layer: str,
    change: Callable[[Any, Any, Any], None],
    message: str,
) -> None:
    assert message in refused(edited(ptq, layer, change), fake_quantized, representative[0])


def test_a_file_that_is_rewritten_without_a_change_passes(
    ptq: bytes, fake_quantized: tf_keras.Model, representative: Pixels
) -> None:
    check_layers(edited(ptq, "stem_conv", lambda *_: None), fake_quantized, representative[0])


def test_of_several_wrong_layers_the_worst_is_named(
    ptq: bytes, fake_quantized: tf_keras.Model, representative: Pixels
) -> None:
    content = edited(edited(ptq, "block3b_project_conv", slightly_other_bias), "predictions", other_weights)
    message = refused(content, fake_quantized, representative[0])
    assert "fake-quantized network: predictions is " in message


def test_a_layer_in_float_is_named(
    start: Network, ranges: dict[str, Range], fake_quantized: tf_keras.Model, representative: Pixels
) -> None:
    place = fake_quantize(ranges)

    def all_but_one(name: str, site: Site, tensor: Any) -> Any:
        return tensor if name == "block4a_se_squeeze" else place(name, site, tensor)

    model = network(SIZE, len(CLASSES), all_but_one)
    set_weights(model, start.weights)
    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type, converter.inference_output_type = tf.uint8, tf.int8
    message = refused(bytes(converter.convert()), fake_quantized, representative[0])
    assert message == "block4a_se_squeeze is not int8 throughout in the converted file"


def test_a_float_file_is_refused(
    small: Bundle, start: Network, fake_quantized: tf_keras.Model, representative: Pixels
) -> None:
    dynamic = convert(load_recipe("dynamic"), start.weights, SIZE, representative[:0])
    for content in (small.variant_path("fp32").read_bytes(), dynamic):
        message = refused(content, fake_quantized, representative[0])
        assert message.endswith("is not int8 throughout in the converted file")
