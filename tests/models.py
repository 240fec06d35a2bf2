""".tflite files that differ from a real one in an operator."""

import flatbuffers
from ai_edge_litert import schema_py_generated as schema


def with_custom_operator(model: bytes, name: str) -> bytes:
    """The model with a custom operator of that name in the place of FULLY_CONNECTED."""
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
    """The model of float32 logits with a softmax behind them."""
    content = unpacked_model(model)
    (graph,) = content.subgraphs
    (logits,) = graph.outputs
    probabilities = schema.TensorT()
    probabilities.name, probabilities.type = "probabilities", schema.TensorType.FLOAT32
    probabilities.shape, probabilities.buffer = graph.tensors[logits].shape, 0
    graph.tensors.append(probabilities)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SOFTMAX
    code.version = 1
    content.operatorCodes.append(code)
    last = schema.OperatorT()
    last.opcodeIndex = len(content.operatorCodes) - 1
    last.inputs, last.outputs = [logits], [len(graph.tensors) - 1]
    last.builtinOptionsType, last.builtinOptions = (
        schema.BuiltinOptions.SoftmaxOptions,
        schema.SoftmaxOptionsT(),
    )
    last.builtinOptions.beta = 1.0
    graph.operators.append(last)
    graph.outputs = [len(graph.tensors) - 1]
    for signature in content.signatureDefs or []:
        signature.outputs[0].tensorIndex = graph.outputs[0]
    return packed_model(content)


def unpacked_model(model: bytes) -> schema.ModelT:
    """The model, to be changed."""
    return schema.ModelT.InitFromPackedBuf(bytearray(model))


def packed_model(content: schema.ModelT) -> bytes:
    """The model as a file."""
    builder = flatbuffers.Builder()
    builder.Finish(content.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _unpacked(model: bytes) -> tuple[schema.ModelT, schema.OperatorCodeT]:
    content = unpacked_model(model)
    (code,) = [
        code for code in content.operatorCodes if code.builtinCode == schema.BuiltinOperator.FULLY_CONNECTED
    ]
    return content, code
