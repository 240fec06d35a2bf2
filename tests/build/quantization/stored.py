"""Read what a converted model stores."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def stored_kernels(content: bytes) -> dict[str, tuple[NDArray[np.int8], Floats]]:
    """The integers of each layer in Keras' layout and the scales of its channels, from an int8 file."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = model.subgraphs
    kernels = {}
    for operator in graph.operators:
        if len(operator.inputs) != 3:  # Input, kernel and bias.
            continue
        kernel = graph.tensors[operator.inputs[1]]
        values = np.asarray(model.buffers[kernel.buffer].data, np.uint8).view(np.int8).reshape(kernel.shape)
        layer = graph.tensors[operator.outputs[0]].name.decode().split("/")[1]
        scales = np.asarray(kernel.quantization.scale, np.float32)
        kernels[layer] = (values.transpose((1, 0) if values.ndim == 2 else (1, 2, 3, 0)), scales)
    return kernels


def stored_biases(content: bytes) -> dict[str, Floats]:
    """The bias of each layer in an int8 file, converted to float."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = model.subgraphs
    biases = {}
    for operator in graph.operators:
        if len(operator.inputs) != 3 or operator.inputs[2] < 0:
            continue
        bias = graph.tensors[operator.inputs[2]]
        integers = np.asarray(model.buffers[bias.buffer].data, np.uint8).view("<i4")
        layer = graph.tensors[operator.outputs[0]].name.decode().split("/")[1]
        biases[layer] = (integers * np.asarray(bias.quantization.scale)).astype(np.float32)
    return biases
