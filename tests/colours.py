"""A small real bundle that tells colours apart: see `colour_models.py`."""

import subprocess
import sys
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle, sha256_of, write_bundle
from service.inference.classifier import encode
from service.inference.interpreter import Interpreter
from service.manifest import CLASS_IDS, GOLDEN, LABELS, SEEN_IMAGES, InputTensor, Manifest, OutputTensor

SIDE = 32
LABELS_OF = ("black", "blue", "green", "red", "white")
CLASS_IDS_OF = ("c00", "c01", "c02", "c03", "c04")
RGB = {
    "black": (0, 0, 0),
    "blue": (0, 0, 255),
    "green": (0, 255, 0),
    "red": (255, 0, 0),
    "white": (255, 255, 255),
}
PRECISIONS = {"fp32": "float32", "ptq": "int8", "int8": "int8", "softmax": "int8"}


def make_models(folder: Path) -> None:
    """Write a .tflite of each of `PRECISIONS`, by TensorFlow in a process of its own."""
    script = Path(__file__).with_name("colour_models.py")
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)  # noqa: S603


def write_colours(
    path: Path,
    models: Path,
    *,
    golden_changes: Mapping[str, NDArray[Any]] | None = None,
    variant_changes: Mapping[str, Any] | None = None,
    class_ids: bool = True,
    seen_images: tuple[str, ...] = (),
) -> Bundle:
    """Write the bundle of the models in a folder.

    `golden_changes` replaces arrays of golden.npz, `variant_changes` fields of every variant.
    """
    pixels = golden_pixels()
    golden: dict[str, NDArray[Any]] = {"pixels": pixels}
    variants: dict[str, Any] = {}
    for name in PRECISIONS:
        variants[name], golden[name] = _variant(name, models / f"{name}.tflite", pixels)
        variants[name] |= variant_changes or {}
    archive = BytesIO()
    np.savez_compressed(archive, **golden | dict(golden_changes or {}))
    files: dict[str, bytes | Path] = {LABELS: _lines(LABELS_OF), GOLDEN: archive.getvalue()}
    if class_ids:
        files[CLASS_IDS] = _lines(CLASS_IDS_OF)
    if seen_images:
        files[SEEN_IMAGES] = _lines(seen_images)
    manifest = Manifest.model_validate(
        {
            "name": "colours",
            "architecture": "the mean colour's nearest class",
            "licence": "Apache-2.0",
            "default_variant": "ptq",
            "classes": len(LABELS_OF),
            "preprocessing": {
                "height": SIDE,
                "width": SIDE,
                "resize": "shorter-side",
                "crop_fraction": 0.875,
                "filter": "bicubic",
            },
            "variants": variants,
            "files": {name: sha256_of(content) for name, content in files.items()},
        }
    )
    return write_bundle(
        path, manifest, files | {f"{name}.tflite": models / f"{name}.tflite" for name in PRECISIONS}
    )


def golden_pixels() -> NDArray[np.uint8]:
    """Each class's colour, and noise: uint8[6, 32, 32, 3]."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    return np.stack([*(np.full_like(noise, colour) for colour in RGB.values()), noise])


def _variant(name: str, path: Path, pixels: NDArray[np.uint8]) -> tuple[dict[str, Any], NDArray[Any]]:
    interpreter = Interpreter(path)
    scaling = {"mean": 127.5, "std": 127.5} if name == "fp32" else {}
    input_ = InputTensor.model_validate(interpreter.input.model_dump() | scaling)
    output = OutputTensor.model_validate(
        interpreter.output.model_dump() | {"kind": "probabilities" if name == "softmax" else "logits"}
    )
    declared = {
        "file": path.name,
        "sha256": sha256_of(path),
        "bytes": path.stat().st_size,
        "precision": PRECISIONS[name],
        "input": input_,
        "output": output,
        "golden": {"largest": 1e-4 if name == "fp32" else 1, "share": 1},
        "provenance": {"command": "tests/colour_models.py", "recipe": {}, "tools": {}},
    }
    return declared, np.stack([interpreter.invoke(encode(image, input_))[0] for image in pixels])


def _lines(lines: tuple[str, ...]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
