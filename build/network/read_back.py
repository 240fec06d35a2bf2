"""Reading the weights back from a `.tflite` file, so that no second copy of them is needed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from build.errors import BuildError
from build.network.architecture import ARCHITECTURE
from build.network.model import LayerWeights, Weights, get_weights, network
from service.inference.interpreter import Interpreter

_WEIGHTED = {
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
}
# A kernel's name ends in its layer and its operation, and a number if there are several of that name.
_KERNEL = re.compile(r"(?:^|/)(?P<layer>\w+)/(?:Conv2D|depthwise|MatMul)\d*$")
# From TFLite's layout to Keras'; a depthwise kernel's is [1, h, w, c] to [h, w, c, 1].
_DENSE, _CONVOLUTION = (1, 0), (1, 2, 3, 0)
# The index of an optional tensor that is left out.
_ABSENT = -1

# The values of a float32 constant; None for any other tensor.
Constant = NDArray[np.float32] | None


def read_back(path: Path, size: int, classes: int, content: bytes | None = None) -> Weights:
    """Return the folded weights from a float32 `.tflite` file that the build stage converted.

    `size` is the side of its input in pixels; `content` is the unpacked file if the one at `path` is packed.

    Raises:
        BuildError: the file is not one of those.
        BundleError: it is not a `.tflite` file.
    """
    # Checks the file's structure, which the schema's classes take for granted.
    Interpreter(path, content=content)
    model = schema.ModelT.InitFromPackedBuf(content or path.read_bytes(), 0)
    other = f"{path} is not a float32 {ARCHITECTURE} of this build stage"
    if len(model.subgraphs) != 1:
        raise BuildError(f"{other}: has {len(model.subgraphs)} graphs")
    found = {layer: (kernel, bias) for layer, kernel, bias in _layers(model)}
    weights: Weights = {}
    for name, expected in get_weights(network(size, classes)).items():
        kernel, bias = found.get(name, (None, None))
        if bias is None:  # The converter leaves out a bias of zeros.
            bias = np.zeros_like(expected.bias)
        if kernel is None or (kernel.shape, bias.shape) != (expected.kernel.shape, expected.bias.shape):
            raise BuildError(f"{other}: no {name}")
        weights[name] = LayerWeights(kernel, bias)
    return weights


def _layers(model: Any) -> Iterator[tuple[str, Constant, Constant]]:
    """Yield each layer's name, its kernel in Keras' layout, and its bias, or None if it has none."""
    (graph,) = model.subgraphs
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode not in _WEIGHTED:
            continue
        # Other converters leave out the input for a missing bias, and names.
        kernel, bias = (*operator.inputs, _ABSENT)[1:3]
        match = _KERNEL.search((graph.tensors[kernel].name or b"").decode(errors="replace"))
        kernel_values = _constant(model, graph.tensors[kernel])
        bias_values = None if bias == _ABSENT else _constant(model, graph.tensors[bias])
        if match and kernel_values is not None and (bias == _ABSENT or bias_values is not None):
            axes = _DENSE if kernel_values.ndim == 2 else _CONVOLUTION
            yield match["layer"], kernel_values.transpose(axes), bias_values


def _constant(model: Any, tensor: Any) -> Constant:
    data = model.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.FLOAT32 or data is None:
        return None
    values: NDArray[np.float32] = np.asarray(data, np.uint8).view(np.float32).reshape(tensor.shape)
    return values
