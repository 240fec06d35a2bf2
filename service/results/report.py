"""The schema of a device's report: what the device is, and what a bundle's variants are worth on it.

`python -m service benchmark --report FILE` writes one, `python -m build report --devices FILES` makes tables
of many. A report is for everybody to read: it has no field for a host's, user's or folder's name, nor for a
serial number, and no text in it may hold what Markdown or HTML would take for its own.
"""

import re
from datetime import date
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from service.bundle.manifest import BundleName, Frozen, Precision, Proportion, Sha256, VariantName

SCHEMA_VERSION: Literal[1] = 1

# Letters, digits, and what stands in the names of devices, processors and systems: no quote, bracket or bar.
TEXT_CHARACTERS = r"\w .,:+()/@#-"
MAX_TEXT = 96


def _check_text(text: str) -> str:
    # Not by a pattern of pydantic's, which takes other characters for letters than Python does: "²" say.
    if not re.fullmatch(f"[{TEXT_CHARACTERS}]{{1,{MAX_TEXT}}}", text):
        raise ValueError(f"should have 1 to {MAX_TEXT} letters, digits, blanks and .,:+()/@#-_")
    return text


Text = Annotated[str, AfterValidator(_check_text)]


class Device(Frozen):
    """What a device is.

    `cpus`: how many of each kind. `features`: those of the processor that inference kernels ask for, by the
    kernel's names, and `hypervisor` in a virtual machine. `emulated`: a program stands between this one and
    another kind of processor.
    """

    name: Text
    machine: Text
    cpus: Annotated[dict[Text, PositiveInt], Field(min_length=1)]
    features: tuple[Text, ...]
    governor: Text | None
    memory_bytes: PositiveInt | None
    emulated: bool


class Software(Frozen):
    """What ran; `delegate` is a name, or that of a library's file."""

    os: Text
    kernel: Text
    python: Text
    service: Text
    runtime: Text
    delegate: Text


class Throughput(Frozen):
    """Inferences a second of all workers together, each a thread with an interpreter of its own."""

    workers: PositiveInt
    per_second: PositiveFloat


class Speed(Frozen):
    """How fast a variant is; decoding an image is in none of it.

    `runs` inferences with one thread gave `p50_seconds` and `p99_seconds`. `joules` are of one inference with
    all workers at work, and of all that the device did meanwhile; None where no sensor says.
    """

    runs: PositiveInt
    p50_seconds: PositiveFloat
    p99_seconds: PositiveFloat
    load_seconds: NonNegativeFloat
    resident_bytes: PositiveInt | None
    throughput: Annotated[tuple[Throughput, ...], Field(min_length=1)]
    joules: PositiveFloat | None


class Accuracy(Frozen):
    """How right a variant is on labelled images; `sha256` tells which, as the manifest's evaluations have it.

    `agreement`: same top-1 as `fp32`, None where that is not in the report, or is the variant itself.
    """

    sha256: Sha256
    images: PositiveInt
    crop: Literal["bundle", "none"]
    top1: Proportion
    top5: Proportion
    agreement: Proportion | None


class VariantReport(Frozen):
    """One variant, which loads and passes its self-test here; `taken` of its `operators` by the delegate."""

    sha256: Sha256
    bytes: PositiveInt
    precision: Precision
    operators: PositiveInt
    taken: NonNegativeInt
    speed: Speed | None
    accuracy: Accuracy | None


class Clock(Frozen):
    """What the CPUs ran at under full load, over what they are made to run at: the median, and the lowest."""

    median: NonNegativeFloat
    lowest: NonNegativeFloat


class Heat(Frozen):
    """Degrees Celsius by zone, before and after the load, and the clock under it where that is told."""

    before: dict[Text, float]
    after: dict[Text, float]
    clock: Clock | None


class DeviceReport(Frozen):
    """The whole report; `heat`, and the variants' `speed`, are there unless the device is emulated."""

    schema_version: Literal[1]
    date: date
    device: Device
    software: Software
    bundle: BundleName
    heat: Heat | None
    variants: Annotated[dict[VariantName, VariantReport], Field(min_length=1)]

    @model_validator(mode="after")
    def _has_speeds_unless_emulated(self) -> Self:
        measured = [self.heat, *(variant.speed for variant in self.variants.values())]
        if self.device.emulated and any(part is not None for part in measured):
            raise ValueError("an emulated device has no speeds to report")
        if not self.device.emulated and None in measured:
            raise ValueError("heat, and the speed of every variant, must be there unless it is emulated")
        return self
