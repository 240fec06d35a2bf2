"""`.tflite` files → a bundle."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from build.assembly.golden_outputs import refuse_other_kind, tolerance_of
from build.assembly.operators import count_operators
from build.bundle_writing import check_replaceable, rewrite_bundle, write_bundle
from build.errors import BuildError
from build.packing import pack
from service.bundle.folder import Bundle, Classes, load_bundle, sha256_of
from service.bundle.manifest import (
    CLASS_IDS,
    GOLDEN,
    LABELS,
    SCHEMA_VERSION,
    SEEN_IMAGES,
    BundleName,
    InputTensor,
    Manifest,
    OutputTensor,
    PerChannel,
    Precision,
    Preprocessing,
    Provenance,
    Training,
    Variant,
    Wire,
)
from service.bundle.validation import first_fault
from service.errors import BundleError
from service.images.pixels import load_pixels
from service.inference.classifier import check_tensors, encode
from service.inference.delegates import Delegate
from service.inference.golden import read_golden_vectors
from service.inference.interpreter import Interpreter

_PHOTO = Path(__file__).with_name("golden.jpg")


@dataclass(frozen=True)
class Model:
    """A `.tflite` file, and what its manifest entry says about it that the file itself doesn't.

    `packed`: whether the bundle stores it packed; `dynamic_range`: whether it quantizes float activations at
    run time.
    """

    name: str
    content: bytes
    precision: Precision
    provenance: Provenance
    output_kind: Literal["logits", "probabilities"] = "logits"
    mean: PerChannel = 0.0
    std: PerChannel = 1.0
    delegate: Delegate = Delegate.XNNPACK
    packed: bool = False
    dynamic_range: bool = False


@dataclass(frozen=True)
class About:
    """What a bundle says about itself; `default` names the variant that is served by default."""

    name: str
    architecture: str
    licence: str
    default: str


@dataclass(frozen=True)
class _Measured:
    variant: Variant
    stored: bytes | Path
    golden: NDArray[np.generic]


def check_destination(path: Path) -> None:
    """Check that a bundle can be written to `path`, before the work that produces it.

    Raises:
        BuildError: its name can't be a bundle's, or nothing can be written there.
        BundleError: it is a file, or a folder with other things in it.
    """
    try:
        TypeAdapter(BundleName).validate_python(path.absolute().name)
    except ValidationError:
        raise BuildError(
            f"{path} can't be a bundle's folder: a bundle has its folder's name, up to 64 letters, digits"
            " and .-_, starting with a letter or digit"
        ) from None
    if path.is_symlink() and not path.exists():
        raise BuildError(f"{path} is a broken link; fix it, or name a new folder")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise BuildError(f"{path} can't be written: {above} is not a writable folder")
    check_replaceable(path)


def refuse_other_classes(path: Path, classes: Classes) -> None:
    """Check that `path` does not hold a bundle of other classes, which would be replaced by mistake.

    A bundle that can't be read, because it is damaged or of an earlier version, may be replaced.

    Raises:
        BuildError: it does.
    """
    try:
        there = load_bundle(path)
    except BundleError:
        return
    if there.classes != classes:
        raise BuildError(
            f"{path} holds a bundle of other classes, which would be replaced; name another folder, or"
            " remove it"
        )


def assemble(
    models: Sequence[Model],
    about: About,
    classes: Classes,
    preprocessing: Preprocessing,
    path: Path,
    *,
    training: Training | None = None,
    seen_images: frozenset[str] = frozenset(),
    beside: Bundle | None = None,
) -> Bundle:
    """Write models as a bundle, each with its file's tensors and its golden vectors.

    The variants of `beside` come first; a model replaces the one of its name. The others keep their files,
    but not their measurements, because the new variants were not measured alongside.

    Raises:
        BuildError: the golden vectors of `beside` are of other pixels; a model has other classes or another
            size, fails when it is run, or gives outputs that are not numbers or not of its kind; or the
            manifest would be invalid.
        BundleError: a file can't be loaded, its integer output has no scale, or `beside` was at `path` and
            has changed meanwhile.
    """
    pixels = golden_pixels(preprocessing)
    measured = _kept(beside, pixels) if beside else {}
    measured |= {model.name: _measure(model, pixels) for model in models}
    golden = golden_file(pixels, {name: m.golden for name, m in measured.items()})
    files: dict[str, Path | bytes] = {LABELS: _lines(classes.labels), GOLDEN: golden}
    if classes.class_ids is not None:
        files[CLASS_IDS] = _lines(classes.class_ids)
    if seen_images:
        files[SEEN_IMAGES] = _lines(sorted(seen_images))
    manifest = validated_manifest(
        schema_version=SCHEMA_VERSION,
        name=about.name,
        architecture=about.architecture,
        licence=about.licence,
        default_variant=about.default,
        classes=len(classes.labels),
        preprocessing=preprocessing,
        variants={name: m.variant for name, m in measured.items()},
        training=training,
        files={file: sha256_of(content) for file, content in files.items()},
    )
    files |= {m.variant.stored.file: m.stored for m in measured.values()}
    if beside and beside.path.resolve() == path.resolve():
        return rewrite_bundle(beside, manifest, files)
    return write_bundle(path, manifest, files)


def golden_pixels(preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return the inputs of the golden vectors, uint8[3, height, width, 3].

    They are a photo, its mirror image and its negative.
    """
    pixels = load_pixels(_PHOTO.read_bytes(), preprocessing)
    return np.stack([pixels, pixels[:, ::-1], 255 - pixels])


def golden_file(pixels: NDArray[np.uint8], expected: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the file of golden vectors: the pixels, and each variant's outputs for them, [n, classes]."""
    content = BytesIO()
    np.savez_compressed(content, allow_pickle=False, pixels=pixels, **expected)
    return content.getvalue()


def validated_manifest(**fields: object) -> Manifest:
    """Make a manifest of these fields.

    Raises:
        BuildError: they do not fit each other; the message says how.
    """
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        raise BuildError(f"the bundle can't be made: {first_fault(error)}") from None


def _measure(model: Model, pixels: NDArray[np.uint8]) -> _Measured:
    """Load a model's file, read its tensors and run it on the golden pixels."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{model.name}.tflite"
        file.write_bytes(model.content)
        interpreter = Interpreter(file, model.delegate)
        input_ = InputTensor(**interpreter.input.model_dump(), mean=model.mean, std=model.std)
        output = OutputTensor(**interpreter.output.model_dump(), kind=model.output_kind)
        # The check that the service makes when it loads a file.
        check_tensors(model.name, interpreter, input_, output)
        expected = (1, *pixels.shape[1:])
        if input_.shape != expected:
            raise BuildError(f"{model.name} takes {input_.shape}, expected {expected}")
        try:
            outputs = np.concatenate([interpreter.invoke(encode(image, input_)) for image in pixels])
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise BuildError(f"{model.name} fails when it is run: {reason}") from None
        if not np.isfinite(outputs).all():
            raise BuildError(
                f"{model.name} gives NaN or infinity for its golden vectors, which no device can be checked"
                " against; convert it again, or pass the --mean and --std that it was trained with"
            )
    refuse_other_kind(model.name, outputs, output)
    stored, wire = model.content, None
    if model.packed:
        stored = pack(model.content)
        wire = Wire(file=f"{file.name}.zst", sha256=sha256_of(stored), bytes=len(stored))
    variant = Variant(
        file=file.name,
        sha256=sha256_of(model.content),
        bytes=len(model.content),
        precision=model.precision,
        input=input_,
        output=output,
        golden=tolerance_of(outputs, model.output_kind, dynamic_range=model.dynamic_range),
        provenance=model.provenance,
        operators=count_operators(model.content),
        wire=wire,
    )
    return _Measured(variant, stored, outputs)


def _kept(bundle: Bundle, pixels: NDArray[np.uint8]) -> dict[str, _Measured]:
    """Return a bundle's variants, without evaluations and latency."""
    kept = {}
    for name, variant in bundle.manifest.variants.items():
        golden = read_golden_vectors(bundle, name)
        if not np.array_equal(golden.pixels, pixels):
            raise BuildError(
                f"{bundle.path} has golden vectors of another version; make them all anew with quantize"
            )
        bare = variant.model_copy(update={"evaluations": (), "latency": None})
        kept[name] = _Measured(bare, bundle.variant_path(name), golden.expected)
    return kept


def _lines(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
