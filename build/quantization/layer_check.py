"""Check that a converted file computes, layer by layer, what the fake-quantized network does.

Each layer of the network is given exactly the tensors that its operator in the file took, so that rounding
in earlier layers does not add up, and a layer that was converted wrongly stands out by itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tf_keras
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from build.errors import BuildError
from build.quantization.fake_quantization import WRAPPED
from build.quantization.layer_names import layer_of

MOST_STEPS = 1.01
"""Integer kernels round where float does not: up to one step, plus float's own last digits."""
MOST_UNEVEN = 0.01
"""How far a layer's output may be from whole steps of the file; with other steps it is up to half a step."""
# The index of an optional tensor that is left out, such as a bias of zeros.
_ABSENT = -1


@dataclass(frozen=True)
class LayerDifference:
    """The largest difference between an operator's output and its layer's, in steps of its quantization."""

    layer: str
    steps: float


@dataclass(frozen=True)
class _Operator:
    """An operator of the file: the layer it is named after, and its tensors that are not constants."""

    layer: str
    inputs: tuple[int, ...]
    output: int
    is_int8: bool


def check_layers(content: bytes, model: tf_keras.Model, pixels: NDArray[np.uint8]) -> list[LayerDifference]:
    """Compare the int8 file `content` with the fake-quantized `model` that it was made from, on one image.

    `pixels` is uint8[height, width, 3]. Returns every layer's difference.

    Raises:
        BuildError: the file lacks a layer, leaves one in float, or computes something else in it; the message
            names the layer.
    """
    operators = list(_operators(content))
    layers = {layer.name.removeprefix(WRAPPED): layer for layer in model.layers if layer.weights}
    in_float = [operator.layer for operator in operators if not operator.is_int8]
    if in_float:
        # An operator that converts a tensor to float is named after the layer before it.
        first = next((layer for layer in in_float if layer in layers), in_float[0])
        raise BuildError(f"{first} is not int8 throughout in the converted file")
    missing = sorted(layers.keys() - {operator.layer for operator in operators})
    if missing:
        raise BuildError(f"the converted file lacks {len(missing)} of the layers, the first {missing[0]}")
    values = _values(content, pixels)
    differences = [_difference(operator, layers, values) for operator in operators]
    # Not `> MOST_STEPS`, and not the largest: both would let NaN pass.
    wrong = [difference for difference in differences if not difference.steps <= MOST_STEPS]
    if wrong:
        worst = max(wrong, key=lambda difference: difference.steps)
        raise BuildError(
            f"the converted file does not match the fake-quantized network: {worst.layer} is"
            f" {worst.steps:.1f} steps away (at most 1); this converter is at fault, use the pinned one"
        )
    return differences


def _operators(content: bytes) -> Iterator[_Operator]:
    """Yield every operator except the first, which converts the pixels from uint8 to int8."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = model.subgraphs
    for operator in graph.operators[1:]:
        (output,) = operator.outputs
        layer = layer_of(graph.tensors[output].name)
        given = [i for i in operator.inputs if i != _ABSENT]
        inputs = [i for i in given if model.buffers[graph.tensors[i].buffer].data is None]
        types = {graph.tensors[i].type for i in (*inputs, output)}
        yield _Operator(layer, tuple(inputs), output, types == {schema.TensorType.INT8})


def _difference(
    operator: _Operator, layers: dict[str, Any], values: dict[int, tuple[NDArray[np.float32], float]]
) -> LayerDifference:
    if operator.layer not in layers:
        raise BuildError(f"the converted file has an operator {operator.layer!r} that belongs to no layer")
    inputs = [values[index][0] for index in operator.inputs]
    expected = layers[operator.layer](inputs if len(inputs) > 1 else inputs[0], training=False).numpy()
    actual, step = values[operator.output]
    if not np.abs(expected / step - np.round(expected / step)).max() <= MOST_UNEVEN:
        raise BuildError(f"{operator.layer} has another range in the converted file than it was given")
    return LayerDifference(operator.layer, float(np.abs(expected - actual).max()) / step)


def _values(content: bytes, pixels: NDArray[np.uint8]) -> dict[int, tuple[NDArray[np.float32], float]]:
    """Return the int8 activations for one image, dequantized, each with its step, by tensor index."""
    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        # A delegate does not expose the tensors between its operators.
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels[np.newaxis])
    interpreter.invoke()
    values = {}
    for details in interpreter.get_tensor_details():
        step, zero_point = details["quantization"]
        if details["dtype"] == np.int8 and step:
            integers = interpreter.get_tensor(details["index"]).astype(np.float32)
            values[details["index"]] = (np.float32(step) * (integers - zero_point), step)
    return values
