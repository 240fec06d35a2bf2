"""A `.tflite` file, loaded by LiteRT."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter as LiteRT
from ai_edge_litert.interpreter import OpResolverType
from numpy.typing import NDArray
from pydantic import ValidationError

from service.errors import BundleError
from service.inference.delegates import Delegate
from service.manifest import Tensor

RUNTIME = f"ai-edge-litert {version('ai-edge-litert')}"

_OP_RESOLVERS = {
    Delegate.XNNPACK: OpResolverType.BUILTIN,
    Delegate.NONE: OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}


class Interpreter:
    """One loaded model of one input and one output, with buffers of its own.

    `input` and `output` are the tensors as the file declares them; `runtime` names what runs it.
    Belongs to one thread at a time.
    """

    def __init__(self, path: Path, delegate: Delegate = Delegate.XNNPACK, threads: int = 1) -> None:
        """Load `path` and allocate its tensors.

        Raises:
            BundleError: the file can't be read, is no model, or is one that can't be run here.
        """
        self.runtime = RUNTIME
        try:
            self._litert = LiteRT(
                model_path=str(path),
                num_threads=threads,
                experimental_op_resolver_type=_OP_RESOLVERS[delegate],
            )
            self._litert.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise BundleError(f"{path} can't be loaded by {RUNTIME}: {reason}") from None
        inputs, outputs = self._litert.get_input_details(), self._litert.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise BundleError(
                f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; a classifier has one of each"
            )
        self.input, self.output = _tensor(path, inputs[0]), _tensor(path, outputs[0])
        self._input_index, self._output_index = inputs[0]["index"], outputs[0]["index"]

    def invoke(self, values: NDArray[Any]) -> NDArray[Any]:
        """The raw output for one input; dtypes and shapes are those of `input` and `output`."""
        self._litert.set_tensor(self._input_index, values)
        self._litert.invoke()
        output: NDArray[Any] = self._litert.get_tensor(self._output_index)
        return output


def _tensor(path: Path, details: dict[str, Any]) -> Tensor:
    scale, zero_point = details["quantization"]
    quantized = scale != 0
    try:
        return Tensor.model_validate(
            {
                "dtype": np.dtype(details["dtype"]).name,
                "shape": tuple(int(side) for side in details["shape"]),
                "scale": float(scale) if quantized else None,
                "zero_point": int(zero_point) if quantized else None,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise BundleError(
            f"{path}: tensor {details['name']} can't be used: {first['loc'][0]}: {first['msg']}"
        ) from None
