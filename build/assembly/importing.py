"""Wrap a TFLite classifier that somebody else made as a bundle."""

import math
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from build.assembly.assemble import About, Model, assemble, refuse_other_classes
from build.assembly.operators import precision_of
from build.errors import BuildError, first_fault
from build.files import in_utf8
from build.network.architecture import CROP_FRACTION
from build.network.weights import read_classes
from build.quantization.recipe import RESERVED_NAMES
from build.versions import tool_versions
from service.bundle.folder import Bundle
from service.bundle.manifest import Filter, Precision, Preprocessing, Provenance, Resize
from service.inference.delegates import Delegate
from service.inference.interpreter import Interpreter

# Where layers with weights don't tell, the input does.
_PRECISIONS = {"uint8": Precision.INT8, "int8": Precision.INT8, "float32": Precision.FLOAT32}


def import_model(
    model: Path,
    path: Path,
    *,
    labels: Path,
    class_ids: Path | None,
    output: Literal["logits", "probabilities"],
    mean: float,
    std: float,
    resize: Resize,
    crop_fraction: float | None,
    filter_: Filter,
    licence: str,
    command: str,
    delegate: Delegate = Delegate.XNNPACK,
) -> Bundle:
    """Write a bundle with the one variant that `model` holds; its name is the file's.

    `mean` and `std` are of a float32 input, `(pixel - mean) / std`. The size comes from the
    model's own input. `crop_fraction` None: 0.875 of the shorter side; of a photo of the model's size it
    must leave a pixel. `delegate` computes the golden vectors: a model may need one.

    Raises:
        BuildError: a file can't be read, the labels are not as many as the model's outputs, the options do
            not fit the model or each other, or a bundle of other classes lies at `path`.
        BundleError: the model can't be loaded, or is no image classifier.
        DelegateError, OperatorError: it can't be run with this delegate.
    """
    try:
        content = model.read_bytes()
    except OSError as error:
        raise BuildError(f"{model} can't be read: {error.strerror}") from None
    interpreter = Interpreter(model, delegate)
    shape, outputs = interpreter.input.shape, interpreter.output.shape
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or len(outputs) != 2:
        raise BuildError(
            f"{model} maps {list(shape)} to {list(outputs)};"
            " a classifier maps [1, height, width, 3] to [1, classes]"
        )
    if interpreter.input.dtype != "float32" and (mean, std) != (0, 1):
        raise BuildError(f"{model} takes {interpreter.input.dtype} pixels; leave --mean and --std out")
    classes = read_classes(outputs[1], labels, class_ids)
    refuse_other_classes(path, classes)
    if crop_fraction is None:
        crop_fraction = CROP_FRACTION if resize is Resize.SHORTER_SIDE else 1
    side = min(shape[1:3])
    if crop_fraction * side < 1:
        raise BuildError(
            f"--crop-fraction {crop_fraction:g} leaves less than a pixel of a photo of the model's size,"
            f" {shape[2]} x {shape[1]}; name {math.ceil(1e4 / side) / 1e4:g} or more"
        )
    try:
        preprocessing = Preprocessing(
            height=shape[1], width=shape[2], resize=resize, crop_fraction=crop_fraction, filter=filter_
        )
    except ValidationError as error:
        raise BuildError(first_fault(error)) from None
    name = variant_name(model.stem)
    if name in RESERVED_NAMES:
        raise BuildError(f"a variant can't be named {name}; rename {model}")
    precision = precision_of(content) or _PRECISIONS[interpreter.input.dtype]
    variant = Model(
        name=name,
        content=content,
        precision=precision,
        provenance=Provenance(
            command=command, recipe={"imported": in_utf8(model.name)}, tools=tool_versions()
        ),
        output_kind=output,
        mean=mean,
        std=std,
        delegate=delegate,
        dynamic_range=precision not in (Precision.FLOAT32, Precision.FLOAT16),
    )
    about = About(path.absolute().name, in_utf8(model.stem), in_utf8(licence), default=name)
    return assemble([variant], about, classes, preprocessing, path)


def variant_name(stem: str) -> str:
    """A file's name as a variant's: lower case, with `_` for what a variant's name can't hold."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in stem.lower())
    return name.lstrip("_-")[:64] or "imported"
