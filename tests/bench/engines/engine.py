"""The engines: a file and a number of threads → a function from pixels to logits."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""The logits float32[classes] for uint8[height, width, 3]."""


class Engine(StrEnum):
    """The engines.

    By default OpenVINO computes a float network in bfloat16 if the processor has instructions for it.
    """

    LITERT = "litert"
    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    OPENVINO_FLOAT32 = "openvino-float32"


def load(engine: Engine, path: Path, threads: int) -> Logits:
    """Load a file for inference, one photo at a time; imports no other engine."""
    return _LOADERS[engine](path, threads)


def _litert(path: Path, threads: int) -> Logits:
    from service.inference.runtime import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (entry,), (exit_,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero_point = exit_["quantization"]

    def logits(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        # An int8 variant of the bundle takes pixels as they are.
        interpreter.set_tensor(entry["index"], pixels[np.newaxis].astype(entry["dtype"], copy=False))
        interpreter.invoke()
        raw: NDArray[Any] = interpreter.get_tensor(exit_["index"])[0]
        return np.float32(scale) * (raw.astype(np.float32) - np.float32(zero_point)) if scale else raw

    return logits


def _onnxruntime(path: Path, threads: int) -> Logits:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def logits(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run(None, {name: pixels[np.newaxis].astype(np.float32)})[0][0]
        return found

    return logits


def _openvino(path: Path, threads: int, more: Mapping[str, str]) -> Logits:
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **more}
    model = openvino.Core().compile_model(path, "CPU", settings)

    def logits(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = model(pixels[np.newaxis].astype(np.float32))[0][0]
        return found

    return logits


_LOADERS: dict[Engine, Callable[[Path, int], Logits]] = {
    Engine.LITERT: _litert,
    Engine.ONNXRUNTIME: _onnxruntime,
    Engine.OPENVINO: partial(_openvino, more={}),
    Engine.OPENVINO_FLOAT32: partial(_openvino, more={"INFERENCE_PRECISION_HINT": "f32"}),
}
