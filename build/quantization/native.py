"""4-bit weights in TFLite's own format, two to a byte, by Google's ai-edge-quantizer."""

import re
import warnings
from collections.abc import Collection, Mapping
from functools import partial

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer.qtyping import TFLOperationName
from ai_edge_quantizer.quantizer import Quantizer
from numpy.typing import NDArray

from build.errors import BuildError
from build.quantization.grids import FULL_BITS
from build.quantization.layer_names import layer_of
from build.quantization.ranges import Range

INT4_BITS = {"*_dwconv2": FULL_BITS, "*": 4}
"""Bits by layer, like a recipe's `weight_bits`: ai-edge-quantizer has no 4-bit depthwise convolutions."""
_LARGEST_BIAS = 2**31 - 1


def to_int4(content: bytes, layers: Collection[str], ranges: Mapping[str, Range], weight_only: bool) -> bytes:
    """Return the `.tflite` file of a float network with the weights of `layers` in 4 bits, and others in 8.

    The scale of each output channel comes from its largest value, so weights on 4-bit grids stay unchanged.
    `ranges` has the range of each layer's output, and of `input`, for int8 activations; it is empty for float
    ones. Those are rounded to int8 at run time or, with `weight_only`, used with the weights as floats.

    Raises:
        BuildError: a channel's bias does not fit into int32, since its weights are tiny in comparison.
    """
    outputs = _outputs(content)
    quantizer = Quantizer(content)
    if ranges:
        add = partial(quantizer.add_static_config, activation_num_bits=8)
        bits = "weight_num_bits"
    else:
        add = quantizer.add_weight_only_config if weight_only else quantizer.add_dynamic_config
        bits = "num_bits"
    add(".*", TFLOperationName.ALL_SUPPORTED, **{bits: FULL_BITS})
    for layer in layers:
        add(re.escape(outputs[layer]), TFLOperationName.ALL_SUPPORTED, **{bits: 4})
    observed = {tensor: _observed(ranges[layer]) for layer, tensor in outputs.items() if layer in ranges}
    # A bias that does not fit is found below.
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        # The quantizer loads the float file to inspect its tensors, in a way that LiteRT warns about.
        warnings.filterwarnings("ignore", ".*experimental_preserve_all_tensors", UserWarning)
        quantized = bytes(quantizer.quantize(observed or None, enable_progress_report=False).quantized_model)
    _check_biases(quantized)
    return quantized


def _outputs(content: bytes) -> dict[str, str]:
    """Return the name of each layer's output tensor in the file, by layer; that of the input as `input`."""
    graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    names = [graph.Tensors(graph.Operators(i).Outputs(0)).Name() for i in range(graph.OperatorsLength())]
    # The last one is named after the file's output, not after its layer.
    layers = {layer_of(name) or "predictions": name.decode() for name in names}
    return layers | {"input": graph.Tensors(graph.Inputs(0)).Name().decode()}


def _check_biases(content: bytes) -> None:
    """Find what ai-edge-quantizer does not report: a bias that it clipped, since it does not fit."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for tensor in model.subgraphs[0].tensors:
        if tensor.type == schema.TensorType.INT32:
            buffer = model.buffers[tensor.buffer]
            # A large buffer is stored after the model, not in it.
            behind = content[buffer.offset : buffer.offset + buffer.size]
            values = np.frombuffer(behind if buffer.data is None else buffer.data.tobytes(), "<i4")
            if (np.abs(values.astype(np.int64)) >= _LARGEST_BIAS).any():
                raise BuildError(
                    f"{layer_of(tensor.name)} has a channel whose weights are tiny compared with its bias:"
                    " use int8-per-channel weights or float32 activations"
                )


def _observed(bounds: Range) -> dict[str, NDArray[np.float32]]:
    """Return a range in the form that ai-edge-quantizer's calibration would give it."""
    return {"min": np.array([bounds.low], np.float32), "max": np.array([bounds.high], np.float32)}
