"""Cuts a `.tflite` file into models of one operator each.

Two kinds of operators stay with their consumer, since the runtime computes them together with it:

- an operator whose inputs are constants, such as fp16's DEQUANTIZE of weights: that runs once, at load;
- LOGISTIC, if its only consumer is a MUL by its own input: that is SiLU, for which TFLite has no operator,
  and which XNNPACK fuses into one kernel in int8.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

from service.errors import BundleError, StartError
from service.inference.runtime import RUNTIME

try:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
except ModuleNotFoundError:
    # tflite-runtime does not include it.
    schema = None

Shape = tuple[int, ...]

_IDENTIFIER = b"TFL3"
# Stands for an omitted optional input.
_ABSENT = -1


@dataclass(frozen=True)
class Operator:
    """One operator: TFLite's name for its kind, its output tensor's name, and its tensors' shapes.

    `stays_with`: the index in the graph of the later operator that it is cut out with, if any.
    """

    kind: str
    layer: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    stays_with: int | None


@dataclass(frozen=True)
class Cut:
    """One operator as a model of its own, with those that stay with it; `place` is its index in the graph.

    `inputs` and `outputs`: the graph's tensors that are those of `content`, a `.tflite`, in its order.
    """

    place: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    content: bytes


@dataclass(frozen=True)
class CutGraph:
    """A graph's operators and cuts, both in graph order; `input` and `output` are its tensors."""

    operators: tuple[Operator, ...]
    cuts: tuple[Cut, ...]
    input: int
    output: int


def cut(content: bytes) -> CutGraph:
    """Cut a `.tflite` with one input and one output, which an interpreter has loaded before.

    Raises:
        BundleError: it has more than one graph.
        StartError: the runtime does not include the file format's schema.
    """
    if schema is None:
        raise StartError(f"{RUNTIME} can't read a graph's operators; install ai-edge-litert, which can")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    if len(model.subgraphs) != 1:
        raise BundleError(
            f"it has {len(model.subgraphs)} graphs, as control flow produces; only a single graph can be cut"
            " into operators"
        )
    graph = _Graph(model)
    if not graph.nodes:
        raise BundleError("it has no operators")
    places = range(len(graph.nodes))
    operators = tuple(graph.operator(place) for place in places)
    (graph_input,), (graph_output,) = graph.inputs, graph.outputs
    return CutGraph(
        operators=operators,
        cuts=tuple(graph.cut(place) for place in places if operators[place].stays_with is None),
        input=graph_input,
        output=graph_output,
    )


def kind_of(code: Any) -> str:
    """Return TFLite's name for an operator's code, an `OperatorCodeT`, or a custom operator's own name."""
    if code.customCode:
        return str(code.customCode.decode())
    # Files from before 2020 only have the narrower of the two fields; TFLite uses the larger value.
    return _names()[max(code.builtinCode, code.deprecatedBuiltinCode)]


@cache
def _names() -> dict[int, str]:
    return {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


class _Graph:
    """A model's only graph; tensors and operators are identified by their index in it."""

    def __init__(self, model: Any) -> None:
        (graph,) = model.subgraphs
        self._model = model
        self._tensors = graph.tensors
        self.nodes = graph.operators
        self.inputs, self.outputs = _present(graph.inputs), _present(graph.outputs)
        self._kinds = [kind_of(model.operatorCodes[node.opcodeIndex]) for node in self.nodes]
        self._producers = {
            tensor: at for at, node in enumerate(self.nodes) for tensor in _present(node.outputs)
        }
        self._consumers: dict[int, list[int]] = {}
        for at, node in enumerate(self.nodes):
            for tensor in dict.fromkeys(_present(node.inputs)):
                self._consumers.setdefault(tensor, []).append(at)
        self._constants = self._find_constants()

    def operator(self, place: int) -> Operator:
        node = self.nodes[place]
        inputs, outputs = _present(node.inputs), _present(node.outputs)
        return Operator(
            kind=self._kinds[place],
            layer=self._tensors[outputs[0]].name.decode(),
            inputs=tuple(map(self._shape, inputs)),
            outputs=tuple(map(self._shape, outputs)),
            stays_with=self._stays_with(place),
        )

    def cut(self, place: int) -> Cut:
        nodes = [self.nodes[at] for at in sorted(self._needed(place))]
        tensors = list(dict.fromkeys(t for node in nodes for t in _present([*node.inputs, *node.outputs])))
        produced = {tensor for node in nodes for tensor in _present(node.outputs)}
        # A tensor that no operator outputs is stored, or is the operator's own state.
        inputs = [t for t in tensors if t not in produced and (t in self._producers or t in self.inputs)]
        outputs = _present(self.nodes[place].outputs)
        return Cut(place, tuple(inputs), tuple(outputs), self._packed(nodes, tensors, inputs, outputs))

    def _find_constants(self) -> set[int]:
        """Return the tensors that are stored, or computed only from such."""
        data = [self._model.buffers[tensor.buffer].data for tensor in self._tensors]
        constants = {tensor for tensor, stored in enumerate(data) if stored is not None and len(stored)}
        for node in self.nodes:
            if constants.issuperset(_present(node.inputs)):
                constants.update(_present(node.outputs))
        return constants

    def _stays_with(self, place: int) -> int | None:
        produced = _present(self.nodes[place].outputs)
        consumers = sorted({consumer for tensor in produced for consumer in self._consumers.get(tensor, [])})
        if not consumers or not set(produced).isdisjoint(self.outputs):
            return None
        if self._constants.issuperset(produced):
            further = self._stays_with(consumers[0])
            return consumers[0] if further is None else further
        return consumers[0] if self._is_silu(place, consumers) else None

    def _is_silu(self, place: int, consumers: Sequence[int]) -> bool:
        if self._kinds[place] != "LOGISTIC" or [self._kinds[consumer] for consumer in consumers] != ["MUL"]:
            return False
        return _present(self.nodes[place].inputs)[0] in _present(self.nodes[consumers[0]].inputs)

    def _needed(self, place: int) -> set[int]:
        """Return the indices of an operator and of all that must be in a model with it."""
        needed = {place}
        for tensor in _present(self.nodes[place].inputs):
            producer = self._producers.get(tensor)
            if producer is not None and (tensor in self._constants or self._stays_with(producer) == place):
                needed |= self._needed(producer)
        return needed

    def _shape(self, tensor: int) -> Shape:
        shape = self._tensors[tensor].shape
        return () if shape is None else tuple(map(int, shape))

    def _packed(
        self, nodes: Sequence[Any], tensors: Sequence[int], inputs: Sequence[int], outputs: Sequence[int]
    ) -> bytes:
        """Return a file of these operators and tensors, renumbered."""
        number = {tensor: new for new, tensor in enumerate(tensors)} | {_ABSENT: _ABSENT}
        # The format requires the first buffer to be empty.
        cut = schema.ModelT(version=self._model.version, buffers=[schema.BufferT()], operatorCodes=[])
        graph = schema.SubGraphT(tensors=[], operators=[])
        graph.inputs, graph.outputs = [number[t] for t in inputs], [number[t] for t in outputs]
        for tensor in tensors:
            copied = copy(self._tensors[tensor])
            buffer = self._model.buffers[copied.buffer]
            copied.buffer = len(cut.buffers) if buffer.data is not None else 0
            cut.buffers += [buffer] if copied.buffer else []
            graph.tensors.append(copied)
        for node in nodes:
            copied = copy(node)
            copied.inputs, copied.outputs = ([number[t] for t in ts] for ts in (node.inputs, node.outputs))
            copied.intermediates = None
            copied.opcodeIndex = len(cut.operatorCodes)
            cut.operatorCodes.append(self._model.operatorCodes[node.opcodeIndex])
            graph.operators.append(copied)
        cut.subgraphs = [graph]
        builder = flatbuffers.Builder()
        builder.Finish(cut.Pack(builder), _IDENTIFIER)
        return bytes(builder.Output())


def _present(tensors: Iterable[Any] | None) -> list[int]:
    return [int(tensor) for tensor in tensors if tensor != _ABSENT] if tensors is not None else []
