"""A small real bundle that classifies colours: see `colour_models.py`."""

import subprocess
import sys
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from build.bundle_writing import bundle_files, write_bundle
from service.bundle.folder import Bundle, sha256_of
from service.bundle.manifest import (
    CLASS_IDS,
    GOLDEN,
    LABELS,
    SCHEMA_VERSION,
    InputTensor,
    Manifest,
    OutputTensor,
)
from service.inference.classifier import encode
from service.inference.interpreter import Interpreter

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
# The normalization of the normalized files: torchvision's, for red, green and blue.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
PRECISIONS = {"fp32": "float32", "ptq": "int8", "int8": "int8", "softmax": "int8"}


def make_models(folder: Path) -> None:
    """Write the .tflite files, with TensorFlow in a process of its own."""
    script = Path(__file__).with_name("colour_models.py")
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)  # noqa: S603


def write_colours(path: Path, models: Path) -> Bundle:
    """Write a bundle with the models in a folder."""
    pixels = golden_pixels()
    golden: dict[str, NDArray[Any]] = {"pixels": pixels}
    variants: dict[str, Any] = {}
    for name in PRECISIONS:
        variants[name], golden[name] = _variant(name, models / f"{name}.tflite", pixels)
    files = {LABELS: lines(LABELS_OF), CLASS_IDS: lines(CLASS_IDS_OF), GOLDEN: archive(golden)}
    manifest = Manifest.model_validate(
        {
            "schema_version": SCHEMA_VERSION,
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
    return write_bundle(path, manifest, files | {f"{n}.tflite": models / f"{n}.tflite" for n in PRECISIONS})


def altered(
    bundle: Bundle,
    path: Path,
    files: Mapping[str, bytes | None] = MappingProxyType({}),
    **variants: Mapping[str, Any],
) -> Bundle:
    """Write a copy of a bundle to `path`, with some files and some fields of variants replaced.

    None as content removes a file. The manifest has the hashes and sizes of the new files.
    """
    manifest = bundle.manifest
    content = {
        name: content for name, content in {**bundle_files(bundle), **files}.items() if content is not None
    }
    named = {name for name in content if not name.endswith(".tflite")}
    changed = {
        name: variant.model_copy(
            update={
                "sha256": sha256_of(content[variant.file]),
                "bytes": _size(content[variant.file]),
                **variants.get(name, {}),
            }
        )
        for name, variant in manifest.variants.items()
    }
    update = {"files": {name: sha256_of(content[name]) for name in named}, "variants": changed}
    return write_bundle(path, manifest.model_copy(update=update), content)


def write_logarithmic(path: Path, colours: Bundle, models: Path) -> Bundle:
    """Write the colour classifier's bundle with an `fp32` that gives NaN for black."""
    # The first golden vector is black.
    golden = {name: values[1:] for name, values in golden_of(colours).items()}
    model = (models / "logarithmic.tflite").read_bytes()
    return altered(colours, path, {"fp32.tflite": model, GOLDEN: archive(golden)})


def golden_of(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """The arrays of golden.npz."""
    with np.load(bundle.path / GOLDEN) as arrays:
        return dict(arrays)


def archive(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as the bytes of an .npz."""
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def lines(texts: Iterable[str]) -> bytes:
    """Texts as the bytes of a file with one per line."""
    return "".join(f"{text}\n" for text in texts).encode()


def write_photos(folder: Path, count: int) -> None:
    """Write a folder for each label, with `count` images of its colour and noise."""
    random = np.random.default_rng(0)
    for label, rgb in RGB.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            noisy = random.normal(rgb, 60, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / label / f"{number}.png")


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


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size
