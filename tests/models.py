"""Real .tflite files with an operator replaced or added."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


def with_custom_operator(model: bytes, name: str) -> bytes:
    """The model with FULLY_CONNECTED replaced by a custom operator of that name."""
    content, code = _unpacked(model)
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = name
    for operator in content.subgraphs[0].operators:
        if content.operatorCodes[operator.opcodeIndex] is code:
            operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.NONE, None
    return packed_model(content)


def with_newer_operator(model: bytes, version: int) -> bytes:
    """The model with FULLY_CONNECTED in another version."""
    content, code = _unpacked(model)
    code.version = version
    return packed_model(content)


def with_softmax(model: bytes) -> bytes:
    """The model of float32 logits with a softmax after them."""
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    kind = schema.BuiltinOperator.SOFTMAX, schema.BuiltinOptions.SoftmaxOptions
    return _followed_by(model, *kind, options, shape=None)


def with_output_shape(model: bytes, shape: list[int]) -> bytes:
    """The model of float32 logits with its output in another shape."""
    options = schema.ReshapeOptionsT()
    options.newShape = shape
    kind = schema.BuiltinOperator.RESHAPE, schema.BuiltinOptions.ReshapeOptions
    return _followed_by(model, *kind, options, shape)


def with_channels_first(model: bytes) -> bytes:
    """The model of float32 pixels as one that takes [1, 3, height, width]."""
    content = unpacked_model(model)
    (graph,) = content.subgraphs
    (pixels,) = graph.inputs
    _, height, width, channels = graph.tensors[pixels].shape
    order, given = schema.TensorT(), schema.TensorT()
    order.name, order.type, order.shape = "order", schema.TensorType.INT32, [4]
    content.buffers.append(schema.BufferT())
    content.buffers[-1].data = np.array([0, 2, 3, 1], np.int32).view(np.uint8)
    order.buffer = len(content.buffers) - 1
    given.name, given.type, given.buffer = "channels_first", schema.TensorType.FLOAT32, 0
    given.shape = [1, channels, height, width]
    graph.tensors += [order, given]
    first = schema.OperatorT()
    first.opcodeIndex = _new_code(content, schema.BuiltinOperator.TRANSPOSE)
    first.inputs, first.outputs = [len(graph.tensors) - 1, len(graph.tensors) - 2], [pixels]
    first.builtinOptionsType = schema.BuiltinOptions.TransposeOptions
    first.builtinOptions = schema.TransposeOptionsT()
    graph.operators.insert(0, first)
    graph.inputs = [len(graph.tensors) - 1]
    for signature in content.signatureDefs or []:
        signature.inputs[0].tensorIndex = graph.inputs[0]
    return packed_model(content)


def with_unpacked_weights(model: bytes) -> bytes:
    """The model with integer weights that are unpacked by DEQUANTIZE, for its layers to compute in float."""
    content = unpacked_model(model)
    (graph,) = content.subgraphs
    code = _new_code(content, schema.BuiltinOperator.DEQUANTIZE)
    content.operatorCodes[code].version = 5  # With a scale per channel.
    unpacking = []
    for operator in graph.operators:
        weights = operator.inputs[1] if len(operator.inputs) > 2 else 0
        if graph.tensors[weights].type != schema.TensorType.INT8:
            continue
        floats, dequantize = schema.TensorT(), schema.OperatorT()
        floats.name, floats.type, floats.buffer = f"floats{weights}", schema.TensorType.FLOAT32, 0
        floats.shape = graph.tensors[weights].shape
        graph.tensors.append(floats)
        dequantize.opcodeIndex, dequantize.inputs = code, [weights]
        dequantize.outputs = operator.inputs[1:2] = [len(graph.tensors) - 1]
        unpacking.append(dequantize)
    graph.operators = [*unpacking, *graph.operators]
    return packed_model(content)


def _followed_by(
    model: bytes, operator: int, options_type: int, options: object, shape: list[int] | None
) -> bytes:
    """The model with an operator after its float32 output; without `shape`, the output keeps its shape."""
    content = unpacked_model(model)
    (graph,) = content.subgraphs
    (before,) = graph.outputs
    output = schema.TensorT()
    output.name, output.type, output.buffer = "behind", schema.TensorType.FLOAT32, 0
    output.shape = shape or graph.tensors[before].shape
    graph.tensors.append(output)
    last = schema.OperatorT()
    last.opcodeIndex = _new_code(content, operator)
    last.inputs, last.outputs = [before], [len(graph.tensors) - 1]
    last.builtinOptionsType, last.builtinOptions = options_type, options
    graph.operators.append(last)
    graph.outputs = [len(graph.tensors) - 1]
    for signature in content.signatureDefs or []:
        signature.outputs[0].tensorIndex = graph.outputs[0]
    return packed_model(content)


def _new_code(content: schema.ModelT, operator: int) -> int:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = operator
    code.version = 1
    content.operatorCodes.append(code)
    return len(content.operatorCodes) - 1


def unpacked_model(model: bytes) -> schema.ModelT:
    """The model as an object that can be changed."""
    return schema.ModelT.InitFromPackedBuf(bytearray(model))


def packed_model(content: schema.ModelT) -> bytes:
    """The model as the bytes of a file."""
    builder = flatbuffers.Builder()
    builder.Finish(content.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _unpacked(model: bytes) -> tuple[schema.ModelT, schema.OperatorCodeT]:
    content = unpacked_model(model)
    (code,) = [
        code for code in content.operatorCodes if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED
    ]
    return content, code
