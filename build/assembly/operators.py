"""The operators of a `.tflite` file, and the precision that it computes in."""

from collections import Counter
from dataclasses import dataclass

from ai_edge_litert import schema_py_generated as schema

from service.bundle.manifest import Precision
from service.measuring.cuts import kind_of

_WITH_WEIGHTS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_Type = schema.TensorType
_ROUNDING = frozenset({"QUANTIZE", "FAKE_QUANT"})
_FLOATS = (_Type.FLOAT32, _Type.FLOAT16)
# By the types of a layer's input and of its weights as stored.
_PRECISIONS = {
    (_Type.FLOAT32, _Type.FLOAT32): Precision.FLOAT32,
    (_Type.FLOAT32, _Type.FLOAT16): Precision.FLOAT16,
    (_Type.FLOAT32, _Type.INT8): Precision.DYNAMIC,
    (_Type.INT8, _Type.INT8): Precision.INT8,
    (_Type.UINT8, _Type.UINT8): Precision.INT8,
    (_Type.INT16, _Type.INT8): Precision.INT16X8,
}


@dataclass(frozen=True)
class _Layer:
    """The types of a layer's input and of its weights as stored; `unpacked`: whether by a DEQUANTIZE."""

    taken: int
    stored: int
    unpacked: bool

    @property
    def in_float(self) -> bool:
        """Whether it computes in float."""
        return self.taken in _FLOATS and (self.unpacked or self.stored in _FLOATS)


def count_operators(content: bytes) -> dict[str, int]:
    """Return how many operators of each kind the file has, by TFLite's names, the most frequent first.

    `content`: a file that an interpreter has loaded.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    names = [
        kind_of(model.operatorCodes[operator.opcodeIndex])
        for graph in model.subgraphs
        for operator in graph.operators
    ]
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def precision_of(content: bytes) -> Precision | None:
    """Return the precision of the file's layers with weights, which says most about how it computes.

    `content`: as for `count_operators`. None if there is no such layer, as in a file compiled for an
    accelerator, or if all have other types.
    """
    layers = _layers(content)
    if any(layer.stored == _Type.INT4 for layer in layers):
        return Precision.INT4
    precisions = {_precision(layer) for layer in layers}
    if precisions <= {Precision.FLOAT32, Precision.DYNAMIC, Precision.FLOAT16} and len(precisions) == 2:
        # The converter leaves small weights in float32.
        precisions.discard(Precision.FLOAT32)
    return precisions.pop() if len(precisions) == 1 else Precision.MIXED if precisions else None


def rounds_activations(content: bytes) -> bool:
    """Return whether activations become 8-bit integers, for a layer's computation or by an operator.

    `content`: as for `count_operators`. Integer weights that are unpacked to floats don't round activations.
    16-bit activations don't count: their steps are so fine that kernels end up as close as those for floats.
    """
    layers_round = any(not layer.in_float and layer.taken != _Type.INT16 for layer in _layers(content))
    return layers_round or _has_rounding_operator(content)


def _has_rounding_operator(content: bytes) -> bool:
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    return any(
        kind_of(model.operatorCodes[operator.opcodeIndex]) in _ROUNDING
        and graph.tensors[operator.outputs[0]].type != _Type.INT16
        for graph in model.subgraphs
        for operator in graph.operators
    )


def _precision(layer: _Layer) -> Precision | None:
    if layer.in_float and layer.stored not in _FLOATS:
        # Not `dynamic`: that is for integer weights that are computed with.
        return Precision.MIXED
    return _PRECISIONS.get((layer.taken, layer.stored))


def _layers(content: bytes) -> set[_Layer]:
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    found = set()
    for graph in model.subgraphs:
        kinds = [kind_of(model.operatorCodes[operator.opcodeIndex]) for operator in graph.operators]
        sources = {
            operator.outputs[0]: graph.tensors[operator.inputs[0]].type
            for operator, kind in zip(graph.operators, kinds, strict=True)
            if kind == "DEQUANTIZE"
        }
        for operator, kind in zip(graph.operators, kinds, strict=True):
            if kind in _WITH_WEIGHTS:
                taken, weights = operator.inputs[:2]
                stored = sources.get(weights, graph.tensors[weights].type)
                found.add(_Layer(graph.tensors[taken].type, stored, unpacked=weights in sources))
    return found
