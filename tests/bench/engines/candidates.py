"""The candidates: files that engines run, and how the other engines' are made from the bundle's."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle.folder import Bundle
from tests.bench.engines.engine import Engine

OPSET = 18
# ONNX Runtime's histograms keep all activations of this many photos in memory.
STRIDE = 20
VARIANTS = ("ptq", "qat")
METHODS = ("MinMax", "Entropy", "Percentile")
PRESETS = ("performance", "mixed")


@dataclass(frozen=True)
class Candidate:
    """An engine with its files, the first of which is loaded."""

    name: str
    engine: Engine
    files: tuple[Path, ...]


def of_bundle(bundle: Bundle) -> list[Candidate]:
    """Return the bundle's variants for LiteRT, and its `fp32.tflite` for OpenVINO, which reads it as well."""
    float32 = (bundle.variant_path("fp32"),)
    return [
        Candidate("LiteRT fp32", Engine.LITERT, float32),
        *(Candidate(f"LiteRT {name}", Engine.LITERT, (bundle.variant_path(name),)) for name in VARIANTS),
        Candidate("OpenVINO fp32", Engine.OPENVINO_FLOAT32, float32),
        Candidate("OpenVINO fp32, its own precision", Engine.OPENVINO, float32),
    ]


def to_onnx(tflite: Path, folder: Path) -> Candidate:
    """Convert the float network for ONNX Runtime, from NHWC to the NCHW that its kernels expect."""
    path = folder / "fp32.onnx"
    command = [sys.executable, "-m", "tf2onnx.convert", "--tflite", tflite, "--output", path]
    made = subprocess.run(  # noqa: S603
        [*command, "--opset", str(OPSET)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise SystemExit(f"tf2onnx can't convert {tflite}: {made.stderr.strip().splitlines()[-1]}")
    return Candidate("ONNX Runtime fp32", Engine.ONNXRUNTIME, (path,))


def onnx_int8(onnx: Path, folder: Path, photos: NDArray[np.uint8], method: str) -> Candidate:
    """Quantize as ONNX Runtime recommends for x86-64 with VNNI: QDQ, per channel, ranges by `method`.

    `photos`: uint8[n, height, width, 3], to calibrate on.
    """
    import onnxruntime
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, path = folder / "prepared.onnx", folder / f"{method.lower()}.onnx"
    # All its shapes are static, so there is nothing to infer symbolically.
    quant_pre_process(onnx, prepared, skip_symbolic_shape=True)
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    quantize_static(
        prepared,
        path,
        _reader(session.get_inputs()[0].name, photos),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[method],
        extra_options={"CalibStridedMinMax": STRIDE},
    )
    return Candidate(f"ONNX Runtime int8, {method}", Engine.ONNXRUNTIME, (path,))


def _reader(name: str, photos: NDArray[np.uint8]) -> Any:
    """Return a `CalibrationDataReader` of the photos, one range at a time."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __len__(self) -> int:
            return len(photos)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._left = iter(photos[start_index:end_index])

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            photo = next(self._left, None)
            return None if photo is None else {name: _batch(photo)}

    return Reader()


def openvino_int8(float32: Path, folder: Path, photos: NDArray[np.uint8], preset: str) -> Candidate:
    """Quantize with NNCF's defaults for that preset: weights per channel, with bias correction.

    `photos`: uint8[n, height, width, 3], to calibrate on.
    """
    import nncf
    import openvino

    model = openvino.Core().read_model(float32)
    made = nncf.quantize(
        model,
        nncf.Dataset(list(photos), _batch),
        preset=nncf.QuantizationPreset(preset),
        subset_size=len(photos),
    )
    path = folder / f"{preset}.xml"
    openvino.save_model(made, path, compress_to_fp16=False)
    return Candidate(f"OpenVINO int8, {preset}", Engine.OPENVINO, (path, path.with_suffix(".bin")))


def _batch(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    return photo[np.newaxis].astype(np.float32)
