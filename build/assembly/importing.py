"""Third-party TFLite classifiers → a bundle."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from build.assembly.assemble import About, Model, assemble, refuse_other_classes
from build.assembly.operators import precision_of, rounds_activations
from build.errors import BuildError
from build.files import in_utf8
from build.network.architecture import CROP_FRACTION
from build.network.classes import read_classes
from build.network.seen import SeenImages, seen_images_of
from build.quantization.recipe import RESERVED_NAMES
from build.versions import running_versions
from service.bundle.folder import Bundle
from service.bundle.manifest import (
    BASELINE,
    IMPORTED,
    SEEN,
    Filter,
    InputTensor,
    PerChannel,
    Precision,
    Preprocessing,
    Provenance,
    Resize,
    Tensor,
    without_repetition,
)
from service.bundle.validation import first_fault
from service.inference.classifier import encode
from service.inference.delegates import Delegate
from service.inference.interpreter import Interpreter

# Of the 256 values of a pixel, how many must differ in an integer input. A model's own mean and std keep
# nearly all of them apart.
_LEAST_LEVELS = 128
# By the type of the input, if the layers with weights don't tell.
_PRECISIONS = {"uint8": Precision.INT8, "int8": Precision.INT8, "float32": Precision.FLOAT32}


@dataclass(frozen=True)
class PreprocessingOptions:
    """How the models expect a photo: cropped and resized, then normalized as `(pixel - mean) / std`.

    `crop_fraction`: how much of the shorter side is kept, at least one pixel of a photo of the models' size;
    None means 0.875, or 1 if photos are squashed. With a mean of 0 and a std of 1, an integer input takes the
    pixels as they are.
    """

    resize: Resize
    crop_fraction: float | None
    filter: Filter
    mean: PerChannel = 0.0
    std: PerChannel = 1.0


@dataclass(frozen=True)
class Origin:
    """Where the models come from; `command` is the command line that imports them.

    `seen_images`: the first digits of the SHA-256 of each image they were trained or calibrated on; None if
    these are unknown.
    """

    licence: str
    command: str
    seen_images: frozenset[str] | None = None


@dataclass(frozen=True)
class _File:
    """A classifier's file: input [1, height, width, 3], output [1, classes]."""

    path: Path
    content: bytes
    input: Tensor
    output: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input, in pixels."""
        return self.input.shape[1], self.input.shape[2]

    @property
    def classes(self) -> int:
        """How many classes it tells apart."""
        return self.output.shape[1]


def named_models(given: Sequence[tuple[str | None, Path]]) -> dict[str, Path]:
    """Return files by variant name: the name given with a file, or else the file's own.

    Raises:
        BuildError: two have the same name, or a variant can't have it.
    """
    models: dict[str, Path] = {}
    for chosen, model in given:
        name = chosen or variant_name(model.stem)
        if name in RESERVED_NAMES:
            raise BuildError(f"a variant can't be named {name}; rename {model}, or pass NAME={model}")
        if name in models:
            raise BuildError(
                f"{models[name]} and {model} would both be the variant {name}; pass one as NAME=FILE"
            )
        models[name] = model
    return models


def import_models(
    models: Mapping[str, Path],
    path: Path,
    *,
    labels: Path,
    class_ids: Path | None,
    output: Literal["logits", "probabilities"],
    preprocessing: PreprocessingOptions,
    origin: Origin,
    delegate: Delegate = Delegate.XNNPACK,
) -> Bundle:
    """Write a bundle of the classifiers in files, each a variant by its name; the first is the default.

    The input size is the models' own. `delegate` computes all golden vectors: a model may need it. If a file
    is a variant of the bundle that it is in, that bundle's seen images are added to those of `origin`.

    Raises:
        BuildError: a file can't be read or is not an image classifier, the models differ in their input size
            or number of classes, `fp32` is not float32, there are more or fewer labels than outputs, the
            options do not fit the models or each other, or `path` holds a bundle of other classes.
        BundleError: a model can't be loaded, or its integer output has no scale.
        DelegateError, OperatorError: a model can't be run with this delegate.
    """
    files = {name: _read(model, delegate) for name, model in models.items()}
    default, first = next(iter(files.items()))
    for file in files.values():
        _refuse_apart(first, file)
    classes = read_classes(first.classes, labels, class_ids)
    refuse_other_classes(path, classes)
    recorded = _recorded(first.size, preprocessing)
    seen = {name: seen_images_of(file.path, file.content, origin.seen_images) for name, file in files.items()}
    variants = []
    for name, file in files.items():
        mean, std = _scaling(file, preprocessing.mean, preprocessing.std)
        of_layers = precision_of(file.content)
        precision = of_layers or _PRECISIONS[file.input.dtype]
        if name == BASELINE and precision is not Precision.FLOAT32:
            raise BuildError(
                f"{BASELINE} must be float32, since all others are compared with it, but {file.path} is"
                f" {precision}; pass NAME={file.path}"
            )
        variants.append(
            Model(
                name=name,
                content=file.content,
                precision=precision,
                provenance=Provenance(
                    command=origin.command, recipe=_recipe(file, seen[name]), tools=running_versions()
                ),
                output_kind=output,
                mean=mean,
                std=std,
                delegate=delegate,
                dynamic_range=_rounds(file, of_layers),
            )
        )
    bundle_name = path.absolute().name
    architecture = in_utf8(first.path.stem) if len(files) == 1 else bundle_name
    about = About(bundle_name, architecture, in_utf8(origin.licence), default)
    images = frozenset[str]().union(*(of.images for of in seen.values()))
    return assemble(variants, about, classes, recorded, path, seen_images=images)


def variant_name(stem: str) -> str:
    """Return a file's name as a variant's: lower case, with `_` for characters that it can't have."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in stem.lower())
    return name.lstrip("_-")[:64] or "imported"


def _read(model: Path, delegate: Delegate) -> _File:
    try:
        content = model.read_bytes()
    except OSError as error:
        raise BuildError(f"{model} can't be read: {error.strerror}") from None
    interpreter = Interpreter(model, delegate)
    shape, outputs = interpreter.input.shape, interpreter.output.shape
    if len(shape) == 4 and shape[1] == 3 != shape[3]:
        raise BuildError(
            f"{model} takes {list(shape)}, channels first: convert it to NHWC, [1, height, width, 3], for"
            " example with onnx2tf or ai-edge-torch"
        )
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or len(outputs) != 2:
        raise BuildError(
            f"{model} maps {list(shape)} to {list(outputs)};"
            " a classifier maps [1, height, width, 3] to [1, classes]"
        )
    return _File(model, content, interpreter.input, interpreter.output)


def _rounds(file: _File, of_layers: Precision | None) -> bool:
    """Return whether a file rounds float activations; `of_layers`: its layers' precision, if they show it."""
    return rounds_activations(file.content) or (of_layers is None and file.input.dtype != "float32")


def _recipe(file: _File, seen: SeenImages) -> dict[str, str | int | float]:
    """Return what a manifest says about how a file was made, as far as that is known."""
    imported: dict[str, str | int | float] = {IMPORTED: in_utf8(file.path.name)}
    return imported | {SEEN: len(seen.images)} if seen.known else imported


def _refuse_apart(first: _File, other: _File) -> None:
    """Check that two files can be variants of one bundle."""
    if (first.size, first.classes) != (other.size, other.classes):
        described = [
            f"{file.path} takes {file.size[1]} x {file.size[0]} pixels and has {file.classes} classes"
            for file in (first, other)
        ]
        raise BuildError(f"{', '.join(described)}; import them into separate bundles")


def _scaling(file: _File, mean: PerChannel, std: PerChannel) -> tuple[PerChannel, PerChannel]:
    """Return the mean and std for an input: 0 and 1 if it is an integer one that takes pixels as they are.

    It does if its scale and zero point turn pixels into what `mean` and `std` do, or into the pixels' own
    values: then the model itself does the rest.
    """
    plain = InputTensor(**file.input.model_dump())
    if plain.dtype == "float32":
        return mean, std
    if (without_repetition(mean), without_repetition(std)) == (0, 1):
        return 0.0, 1.0
    if plain.scale is None or plain.zero_point is None:
        raise BuildError(
            f"{file.path} takes {plain.dtype} without a scale, the pixels as they are: --mean and --std don't"
            " apply; leave them out, and import files that need them into a separate bundle"
        )
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(256, 1, 3)
    as_they_are = encode(ramp, plain).astype(np.float32)
    scaled = encode(ramp, InputTensor.model_validate(plain.model_dump() | {"mean": mean, "std": std}))
    values = plain.scale * (as_they_are - plain.zero_point)
    if np.abs(scaled - as_they_are).max() <= 1 or np.abs(values - ramp).max() <= 1:
        return 0.0, 1.0
    levels = min(len(np.unique(scaled[..., channel])) for channel in range(3))
    if levels < _LEAST_LEVELS:
        raise BuildError(
            f"{file.path} takes {plain.dtype} of scale {plain.scale:g} and zero point {plain.zero_point}:"
            f" --mean and --std leave {levels} of a pixel's 256 values; pass those that it was trained with,"
            " or leave them out if it takes pixels"
        )
    return mean, std


def _recorded(size: tuple[int, int], options: PreprocessingOptions) -> Preprocessing:
    """The preprocessing that the manifest records; mean and std are each input's own."""
    height, width = size
    crop_fraction = options.crop_fraction
    if crop_fraction is None:
        crop_fraction = CROP_FRACTION if options.resize is Resize.SHORTER_SIDE else 1
    if crop_fraction * min(size) < 1:
        raise BuildError(
            f"--crop-fraction {crop_fraction:g} leaves less than a pixel of a photo of the model's size,"
            f" {width} x {height}; pass {math.ceil(1e4 / min(size)) / 1e4:g} or more"
        )
    try:
        return Preprocessing(
            height=height,
            width=width,
            resize=options.resize,
            crop_fraction=crop_fraction,
            filter=options.filter,
        )
    except ValidationError as error:
        raise BuildError(first_fault(error)) from None
