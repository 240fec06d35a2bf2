"""What a `.tflite` file computes with."""

from collections import Counter

from ai_edge_litert import schema_py_generated as schema

from service.inference.cuts import kind_of


def count_operators(content: bytes) -> dict[str, int]:
    """How many operators of each kind the file has, by TFLite's names, the most frequent first.

    `content` is a file that an interpreter has loaded.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    names = [
        kind_of(model.operatorCodes[operator.opcodeIndex])
        for graph in model.subgraphs
        for operator in graph.operators
    ]
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))
