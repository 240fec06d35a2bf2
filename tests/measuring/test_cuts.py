from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.bundle.folder import Bundle
from service.errors import BundleError
from service.inference import runtime
from service.inference.classifier import encode
from service.inference.delegates import Delegate
from service.inference.golden import read_golden_vectors
from service.inference.interpreter import Interpreter, resolver
from service.measuring.cuts import CutGraph, cut
from tests.delegates import by_each_built_in
from tests.models import packed_model, unpacked_model

by_each_variant = pytest.mark.parametrize("variant", ["fp32", "fp16", "dynamic", "ptq", "qat"])


def interpreter(content: bytes, delegate: Delegate) -> Any:
    loaded = runtime.Interpreter(model_content=content, experimental_op_resolver_type=resolver(delegate))
    loaded.allocate_tensors()
    return loaded


def chained(graph: CutGraph, pixels: NDArray[Any], delegate: Delegate) -> NDArray[Any]:
    """The graph's output, computed by its cuts one after another."""
    values = {graph.input: pixels}
    for piece in graph.cuts:
        loaded = interpreter(piece.content, delegate)
        for details, tensor in zip(loaded.get_input_details(), piece.inputs, strict=True):
            loaded.set_tensor(details["index"], values[tensor])
        loaded.invoke()
        for details, tensor in zip(loaded.get_output_details(), piece.outputs, strict=True):
            values[tensor] = loaded.get_tensor(details["index"])
    return values[graph.output]


@by_each_variant
@by_each_built_in
def test_the_cuts_compute_what_the_graph_does(
    default_bundle: Bundle, variant: str, delegate: Delegate
) -> None:
    path = default_bundle.variant_path(variant)
    pixels = encode(
        read_golden_vectors(default_bundle, variant).pixels[0], default_bundle.variant(variant).input
    )
    expected = Interpreter(path, delegate).invoke(pixels)
    assert len(np.unique(expected)) > 10
    np.testing.assert_array_equal(chained(cut(path.read_bytes()), pixels, delegate), expected)


@by_each_variant
def test_every_operator_appears_once_in_the_graphs_order(default_bundle: Bundle, variant: str) -> None:
    content = default_bundle.variant_path(variant).read_bytes()
    graph, loaded = cut(content), interpreter(content, Delegate.NONE)
    nodes, tensors = loaded._get_ops_details(), {t["index"]: t for t in loaded.get_tensor_details()}
    assert [operator.kind for operator in graph.operators] == [node["op_name"] for node in nodes]
    for operator, node in zip(graph.operators, nodes, strict=True):
        first = tensors[int(node["outputs"][0])]
        assert operator.layer == first["name"]
        assert operator.outputs[0] == tuple(first["shape"])
        assert operator.inputs == tuple(tuple(tensors[int(t)]["shape"]) for t in node["inputs"] if t >= 0)
    separate = [place for place, operator in enumerate(graph.operators) if operator.stays_with is None]
    assert [piece.place for piece in graph.cuts] == separate
    for place, operator in enumerate(graph.operators):
        assert operator.stays_with is None or (
            operator.stays_with > place and operator.stays_with in separate
        )


def kept_together(graph: CutGraph) -> Counter[tuple[str, str]]:
    """How often an operator of one kind stays with one of another."""
    return Counter(
        (operator.kind, graph.operators[operator.stays_with].kind)
        for operator in graph.operators
        if operator.stays_with is not None
    )


def test_silu_is_kept_together_and_the_squeeze_and_excite_gate_is_not(default_bundle: Bundle) -> None:
    graph = cut(default_bundle.variant_path("ptq").read_bytes())
    assert kept_together(graph) == {("LOGISTIC", "MUL"): 55}
    assert Counter(operator.kind for operator in graph.operators)["LOGISTIC"] == 71


def test_operators_on_constants_stay_with_their_consumer(default_bundle: Bundle) -> None:
    graph = cut(default_bundle.variant_path("fp16").read_bytes())
    found = kept_together(graph)
    assert sum(n for (kind, _), n in found.items() if kind == "DEQUANTIZE") == 186
    assert found["LOGISTIC", "MUL"] == 55
    assert sum(found.values()) == 186 + 55


def test_a_file_of_more_than_one_graph_is_refused(colours: Bundle) -> None:
    model = unpacked_model(colours.variant_path("fp32").read_bytes())
    model.subgraphs *= 2
    content = packed_model(model)
    with pytest.raises(BundleError, match="it has 2 graphs, as control flow produces"):
        cut(content)
