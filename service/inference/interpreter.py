"""A `.tflite` file, loaded by the runtime."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from service.bundle.manifest import Tensor
from service.bundle.validation import first_fault
from service.errors import BundleError, DelegateError, OperatorError, StartError
from service.inference import runtime
from service.inference.delegates import Delegate, load_delegate
from service.inference.runtime import RUNTIME, OpResolverType
from service.inference.share import partitions_of, share_of

_EDGE_TPU = "edgetpu-custom-op"
# The runtime appends this to the delegate's message.
_RESTORED = "Restored original execution plan after delegate application failure."


class Interpreter:
    """One loaded model with one input, one output and its own buffers.

    `input` and `output` are the tensors as the file declares them, except that an output
    [1, 1, 1, classes] is [1, classes] here; `share` is what the delegate took of the graph. Belongs to one
    thread at a time.
    """

    def __init__(
        self,
        path: Path,
        delegate: Delegate = Delegate.XNNPACK,
        content: bytes | None = None,
    ) -> None:
        """Load `path` or, if given, `content`; `path` then only names it in errors. Allocate the tensors.

        Interpreters of the same `content` share it. XNNPACK takes what an external delegate leaves, and
        the built-in kernels compute the rest.

        Raises:
            BundleError: the file can't be read, is not a model of one input and one output, or can't run
                here.
            OperatorError: neither the runtime nor the delegate computes one of its operators.
            DelegateError: the delegate can't be loaded, or does not work with this model. If XNNPACK
                takes nothing, that is not an error: the CPU computes it anyway, and `share` shows it.
        """
        external = [] if delegate.is_built_in else [load_delegate(delegate)]
        try:
            self._model = runtime.Interpreter(
                model_path=str(path) if content is None else None,
                model_content=content,
                num_threads=1,
                experimental_op_resolver_type=resolver(delegate),
                experimental_delegates=external,
            )
            taken_first = len(partitions_of(self._model._get_ops_details())) if external else None
            self._model.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _load_error(path, delegate, error) from None
        nodes = self._model._get_ops_details()
        self.share = share_of(nodes, partitions_of(nodes)[:taken_first])
        if external and not self.share.taken:
            raise DelegateError(
                f"delegate {delegate} takes none of the {self.share.operators} operators of {path}: use a"
                " variant that was made for it, or xnnpack"
            )
        inputs, outputs = self._model.get_input_details(), self._model.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise BundleError(
                f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; a classifier has one of each"
            )
        self.input, self.output = _tensor(path, inputs[0]), _in_a_row(_tensor(path, outputs[0]))
        self._input_index, self._output_index = inputs[0]["index"], outputs[0]["index"]

    def invoke(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the raw output for one input; dtypes and shapes are those of `input` and `output`.

        Raises:
            RuntimeError: an operator, or the delegate, failed.
        """
        self._model.set_tensor(self._input_index, values)
        self._model.invoke()
        output: NDArray[Any] = self._model.get_tensor(self._output_index)
        return output if output.ndim == 2 else output.reshape(self.output.shape)


def resolver(delegate: Delegate) -> OpResolverType:
    """Return the operator resolver: it may use XNNPACK with every delegate except `none`."""
    if delegate == Delegate.NONE:
        return OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return OpResolverType.BUILTIN


def _load_error(path: Path, delegate: Delegate, error: Exception) -> StartError:
    reason = " ".join(str(error).split())
    if older := re.search(r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'", reason):
        return OperatorError(
            f"{path} needs the operator {older[1]} in version {older[2]}, which {RUNTIME} does not have: use"
            " the newest ai-edge-litert, or another variant (`python -m service check` shows which run here)"
        )
    if custom := re.search(r"unresolved custom op: ([\w-]+?)(?=\.?(See|$|\s))", reason):
        advice = (
            "it was compiled for the Edge TPU: set EDGEWISE_DELEGATE=edgetpu"
            if custom[1] == _EDGE_TPU and delegate.is_built_in
            else "use the delegate that it was made for, or another variant"
        )
        return OperatorError(
            f"{path} needs the operator {custom[1]}, which neither {RUNTIME} nor delegate {delegate} has:"
            f" {advice}"
        )
    if not delegate.is_built_in and isinstance(error, RuntimeError):
        reason = reason.removesuffix(_RESTORED)
        return DelegateError(f"delegate {delegate} fails with {path}: {reason}; use another one, or xnnpack")
    return BundleError(f"{path} can't be loaded by {RUNTIME}: {reason}")


def _in_a_row(output: Tensor) -> Tensor:
    """Return the output without the height and width of 1 that a fully convolutional network leaves."""
    if len(output.shape) != 4 or output.shape[:3] != (1, 1, 1):
        return output
    return output.model_copy(update={"shape": (1, output.shape[3])})


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
        raise BundleError(f"{path}: tensor {details['name']} can't be used: {first_fault(error)}") from None
