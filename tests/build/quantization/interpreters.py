"""Look into converted models as LiteRT runs them, and compare their answers."""

from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from service.inference.classifier import Classifier


def mean_error(fp32: Classifier, variant: Classifier, photos: NDArray[np.uint8]) -> float:
    """The mean distance of a variant's logits from those of fp32, in standard deviations of the latter."""
    expected = np.stack([fp32.scores(pixels) for pixels in photos])
    actual = np.stack([variant.scores(pixels) for pixels in photos])
    return float(np.abs(actual - expected).mean() / expected.std())


def interpreter_without_delegate(path: Path) -> Interpreter:
    """An interpreter of the file without a delegate, which would replace operators."""
    interpreter = Interpreter(
        str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    return interpreter


def kernels_of(interpreter: Interpreter) -> list[dict[str, Any]]:
    """The tensors that are kernels, in the order of their operators."""
    weighted = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()
    return [tensors[op["inputs"][1]] for op in operators if op["op_name"] in weighted]
