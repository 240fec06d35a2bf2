"""What a `.tflite` file computes with."""

from collections import Counter
from typing import Any

from ai_edge_litert import schema_py_generated as schema

_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def count_operators(content: bytes) -> dict[str, int]:
    """How many operators of each kind the file has, by TFLite's names, the most frequent first.

    `content` is a file that an interpreter has loaded.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    codes = [
        model.operatorCodes[operator.opcodeIndex] for graph in model.subgraphs for operator in graph.operators
    ]
    # A custom operator has a name of its own.
    names = [code.customCode.decode() if code.customCode else _NAMES[_builtin(code)] for code in codes]
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _builtin(code: Any) -> int:
    # Files from before 2020 have the number in the narrower of the two fields alone; TFLite takes the larger.
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))
