"""The schema of a device's report: a description of the device, and a bundle's results on it.

`python -m service benchmark --report FILE` writes one; `python -m build report --devices FILES` makes tables
of many. Reports may be published: they have no field for the name of a host, user or folder, nor for a
serial number, and no text in them may contain markup of Markdown or HTML.
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

# What the names of devices, processors and systems contain; no quotes, bars, or square or angle brackets.
TEXT_CHARACTERS = r"\w .,:+()/@#-"
MAX_TEXT = 96


def _check_text(text: str) -> str:
    # Not a pydantic pattern, which does not agree with Python on what is a letter: "²", for example.
    if not re.fullmatch(f"[{TEXT_CHARACTERS}]{{1,{MAX_TEXT}}}", text):
        raise ValueError(f"should have 1 to {MAX_TEXT} letters, digits, spaces and .,:+()/@#-_")
    return text


Text = Annotated[str, AfterValidator(_check_text)]


class Device(Frozen):
    """A description of a device.

    `cpus`: how many of each kind. `features`: the processor features that inference kernels check, by the
    Linux kernel's names, and `hypervisor` in a virtual machine. `emulated`: whether a program such as
    qemu-user runs this one on another kind of processor.
    """

    name: Text
    machine: Text
    cpus: Annotated[dict[Text, PositiveInt], Field(min_length=1)]
    features: tuple[Text, ...]
    governor: Text | None
    memory_bytes: PositiveInt | None
    emulated: bool


class Software(Frozen):
    """The software that ran; `delegate` is a name, or the name of a library file."""

    os: Text
    kernel: Text
    python: Text
    service: Text
    runtime: Text
    delegate: Text


class Throughput(Frozen):
    """Inferences per second of all workers together, each a thread with its own interpreter."""

    workers: PositiveInt
    per_second: PositiveFloat


class Speed(Frozen):
    """The speed of a variant, without decoding images.

    `p50_seconds` and `p99_seconds` are over `runs` inferences with one thread. `joules` are per inference
    with all workers busy, and include whatever else the device did; None without a sensor.
    """

    runs: PositiveInt
    p50_seconds: PositiveFloat
    p99_seconds: PositiveFloat
    load_seconds: NonNegativeFloat
    resident_bytes: PositiveInt | None
    throughput: Annotated[tuple[Throughput, ...], Field(min_length=1)]
    joules: PositiveFloat | None


class Accuracy(Frozen):
    """A variant's accuracy on labelled images; `sha256` identifies them, as in the manifest's evaluations.

    `agreement`: same top-1 as `fp32`; None if that is not in the report, or is the variant itself.
    """

    sha256: Sha256
    images: PositiveInt
    crop: Literal["bundle", "none"]
    top1: Proportion
    top5: Proportion
    agreement: Proportion | None


class VariantReport(Frozen):
    """One variant, which loads and passes its self-test here; the delegate took `taken` of `operators`."""

    sha256: Sha256
    bytes: PositiveInt
    precision: Precision
    operators: PositiveInt
    taken: NonNegativeInt
    speed: Speed | None
    accuracy: Accuracy | None


class Clock(Frozen):
    """The CPUs' frequency under full load, divided by their maximum: the median, and the lowest."""

    median: NonNegativeFloat
    lowest: NonNegativeFloat


class Heat(Frozen):
    """Degrees Celsius by zone, before and after the load, and the clock under load if that is known."""

    before: dict[Text, float]
    after: dict[Text, float]
    clock: Clock | None


class DeviceReport(Frozen):
    """The whole report; it has `heat` and the variants' `speed` unless the device is emulated."""

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
            raise ValueError("heat and the speed of every variant are required unless the device is emulated")
        return self
