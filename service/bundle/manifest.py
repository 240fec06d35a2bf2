"""The schema of a bundle's `manifest.json`: what a bundle holds and everything known about it.

`python -m service.bundle.manifest` prints it as a JSON schema.
"""

import json
import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    field_validator,
    model_validator,
)

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
LABELS = "labels.txt"
CLASS_IDS = "class_ids.txt"
GOLDEN = "golden.npz"
SEEN_IMAGES = "seen_images.txt"
REFERENCE = "reference.json"
PER_CLASS = "per_class.csv"
MODEL_CARD = "README.md"

# The variant that others are compared with.
BASELINE = "fp32"

# Keys of a recipe whose network comes from elsewhere: the file's name, and how many images that network has
# seen, if that is known. Variants that are made from the network keep both.
IMPORTED, SEEN = "imported", "seen_images"

SCHEMA_VERSION: Literal[2] = 2

# Flat names only: nothing in a manifest can point outside its folder.
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
BundleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
VariantName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Ratio = Annotated[float, Field(ge=0, le=1)]


class Frozen(BaseModel):
    """A model that can't be changed; it accepts only known fields and finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Precision(StrEnum):
    """The number formats of a variant's weights and activations."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    DYNAMIC = "dynamic"
    INT8 = "int8"
    INT4 = "int4"
    INT16X8 = "int16x8"
    MIXED = "mixed"


class Resize(StrEnum):
    """How an image is brought to the model's size."""

    SHORTER_SIDE = "shorter-side"
    SQUASH = "squash"


class Filter(StrEnum):
    """The resize filter, by Pillow's names."""

    NEAREST = "nearest"
    BOX = "box"
    BILINEAR = "bilinear"
    HAMMING = "hamming"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


class Preprocessing(Frozen):
    """How pixels of any size become uint8[height, width, 3]."""

    height: PositiveInt
    width: PositiveInt
    resize: Resize
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    filter: Filter
    jpeg_dct_scaling: bool = True

    @model_validator(mode="after")
    def _squash_takes_no_crop(self) -> Self:
        if self.resize is Resize.SQUASH and self.crop_fraction != 1:
            raise ValueError("crop_fraction must be 1 if resize is squash")
        return self


class Tensor(Frozen):
    """One tensor of a variant: its shape, with the batch of 1, and its affine quantization.

    A quantized value q stands for `scale * (q - zero_point)`.
    """

    dtype: Literal["uint8", "int8", "float32"]
    shape: Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=4)]
    scale: Annotated[float, Field(gt=0)] | None = None
    zero_point: int | None = None


PerChannel = float | tuple[float, float, float]
"""One value for all channels, or one each for red, green and blue."""
_Positive = Annotated[float, Field(gt=0)]


def without_repetition(given: PerChannel) -> PerChannel:
    """Return one value for all channels if the three are equal, else `given`."""
    return given[0] if isinstance(given, tuple) and len(set(given)) == 1 else given


class InputTensor(Tensor):
    """The input: float32 takes (pixel - mean) / std.

    `mean` and `std` are one value for all channels, or one each for red, green and blue. If they are 0 and
    1, uint8 takes the pixel and int8 the pixel - 128; otherwise they take (pixel - mean) / std, quantized.
    """

    mean: PerChannel = 0.0
    std: _Positive | tuple[_Positive, _Positive, _Positive] = 1.0

    @property
    def takes_pixels(self) -> bool:
        """Whether it takes the pixels as they are."""
        return self.mean == 0 and self.std == 1

    @field_validator("mean", "std")
    @classmethod
    def _without_repetition(cls, given: PerChannel) -> PerChannel:
        return without_repetition(given)

    @model_validator(mode="after")
    def _can_be_quantized(self) -> Self:
        if self.dtype != "float32" and not self.takes_pixels and None in (self.scale, self.zero_point):
            raise ValueError(f"mean and std of {self.dtype} need a scale and a zero_point")
        return self


class OutputTensor(Tensor):
    """The output, one value per class."""

    kind: Literal["logits", "probabilities"]


class Proportion(Frozen):
    """A share of the images, with its 95 % Wilson interval."""

    count: NonNegativeInt
    ratio: Ratio
    lower: Ratio
    upper: Ratio


class Comparison(Frozen):
    """One variant compared with another on the same images.

    `agreement`: same top-1. `kl_nats`: mean of KL(against ‖ this); `kl_nats_error`: its standard
    error, if known. `lost`: images that the other gets right and this one wrong; `won`: the reverse.
    """

    against: VariantName
    agreement: Proportion
    kl_nats: NonNegativeFloat
    kl_nats_error: NonNegativeFloat | None = None
    lost: NonNegativeInt
    won: NonNegativeInt


class ImageSet(Frozen):
    """A set of images: `sha256` is over the sorted SHA-256 digests of the files, in hex lines."""

    name: str
    images: PositiveInt
    sha256: Sha256


class Evaluation(Frozen):
    """Accuracy of one variant on one set of labelled images.

    `crop`: the bundle's own, or `none` for the whole image. `seen_images`: how many of the
    images were used for training or calibration; if it is not 0, the numbers are not test accuracy.
    `ece`: the expected calibration error of the top-1 probability, over 15 bins of equal width
    (Guo et al., "On Calibration of Modern Neural Networks", 2017). `comparisons`: with every other
    one evaluated in the same run. `tools`: the versions of what decoded the images. `reference`
    marks the evaluation that represents the variant.
    """

    dataset: ImageSet
    crop: Literal["bundle", "none"]
    seen_images: NonNegativeInt
    runtime: str
    delegate: str
    tools: dict[str, str]
    top1: Proportion
    top5: Proportion
    ece: Ratio
    comparisons: tuple[Comparison, ...] = ()
    reference: bool = False


class Latency(Frozen):
    """How long an inference took on one machine, with one thread and without decoding."""

    machine: str
    runtime: str
    delegate: str
    runs: PositiveInt
    p50_seconds: NonNegativeFloat
    p99_seconds: NonNegativeFloat


class GoldenTolerance(Frozen):
    """How far a device may deviate from the golden vectors.

    `largest`: the largest allowed difference of any output value, in steps of an integer output
    or in the units of a float one. `share`: the share of values that may differ at all.
    """

    largest: NonNegativeFloat
    share: Ratio


class Temperature(Frozen):
    """What the logits of trained weights were divided by, once, to calibrate the probabilities.

    It is part of the last layer's weights. It was fitted on `images`, which were not trained on;
    `ece_before` and `ece_after` are the expected calibration error of float32 on them.
    """

    value: Annotated[float, Field(gt=0)]
    images: ImageSet
    ece_before: Ratio
    ece_after: Ratio


class Training(Frozen):
    """How weights were trained: those that all variants are made from, or one variant's own.

    `losses` are for photos that were not trained on, before the `temperature`, if there is one.
    """

    method: Literal["distillation", "new-classes", "quantization-aware"] = "distillation"
    command: str
    started_from: str
    started_from_sha256: Sha256
    tools: dict[str, str]
    images: tuple[ImageSet, ...]
    seed: int
    steps: PositiveInt
    batch_size: PositiveInt
    learning_rate: Annotated[float, Field(gt=0)]
    seconds: NonNegativeFloat
    losses: dict[str, float]
    temperature: Temperature | None = None


class Provenance(Frozen):
    """How a variant was made; `training` is quantization-aware training from the network's weights."""

    command: str
    recipe: dict[str, str | int | float | bool]
    tools: dict[str, str]
    calibration: ImageSet | None = None
    training: Training | None = None

    @property
    def knows_its_images(self) -> bool:
        """Whether the bundle lists the images that the variant has seen: not if it was imported without."""
        return IMPORTED not in self.recipe or SEEN in self.recipe


class Wire(Frozen):
    """What a bundle holds in place of a variant's `.tflite`: the same file, packed as one Zstandard frame."""

    file: FileName
    sha256: Sha256
    bytes: PositiveInt


class Variant(Frozen):
    """One `.tflite` file and everything known about it; `operators`: how many of each kind it has.

    `file`, `sha256` and `bytes` are those of the `.tflite` as it runs. The bundle holds it as it is or, if
    there is a `wire`, holds that in its place.
    """

    file: FileName
    sha256: Sha256
    bytes: PositiveInt
    precision: Precision
    input: InputTensor
    output: OutputTensor
    golden: GoldenTolerance
    provenance: Provenance
    operators: dict[str, PositiveInt] = {}
    evaluations: tuple[Evaluation, ...] = ()
    latency: Latency | None = None
    wire: Wire | None = None

    @property
    def stored(self) -> "Wire | Variant":
        """The one whose `file`, `sha256` and `bytes` are those of what the bundle holds."""
        return self.wire or self


class Baseline(Frozen):
    """A `.tflite` file that was measured for comparison and is not in the bundle.

    `sha256` and `bytes` are those of the file as it runs; `wire_bytes` is its packed size, None if it is not
    packed. `provenance` is None for the weights that training started from: see `Manifest.training`.
    """

    description: str
    sha256: Sha256
    bytes: PositiveInt
    wire_bytes: PositiveInt | None = None
    precision: Precision
    provenance: Provenance | None = None
    evaluations: tuple[Evaluation, ...]


class Manifest(Frozen):
    """The content of `manifest.json`.

    `files` has the SHA-256 of every other file in the folder except the variants' files and the signature.
    """

    # No default: defaults are not written, but a reader must be able to tell the version.
    schema_version: Literal[2]
    name: BundleName
    architecture: str
    licence: str
    default_variant: VariantName
    classes: PositiveInt
    preprocessing: Preprocessing
    variants: Annotated[dict[VariantName, Variant], Field(min_length=1)]
    baselines: dict[VariantName, Baseline] = {}
    training: Training | None = None
    files: dict[FileName, Sha256]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.default_variant not in self.variants:
            raise ValueError(f"default_variant {self.default_variant!r} is not among the variants")
        for required in (LABELS, GOLDEN):
            if required not in self.files:
                raise ValueError(f"files lacks {required}")
        owners = [MANIFEST, SIGNATURE, *self.files, *(v.stored.file for v in self.variants.values())]
        repeated = {name for name in owners if owners.count(name) > 1}
        if repeated:
            raise ValueError(f"files named more than once: {', '.join(sorted(repeated))}")
        size = (1, self.preprocessing.height, self.preprocessing.width, 3)
        for name, variant in self.variants.items():
            if variant.input.shape != size:
                raise ValueError(f"{name}: input shape {variant.input.shape}, expected {size}")
            if variant.output.shape != (1, self.classes):
                raise ValueError(f"{name}: output shape {variant.output.shape}, expected (1, {self.classes})")
        return self


def reference_evaluation(evaluations: Iterable[Evaluation]) -> Evaluation | None:
    """Return the evaluation that represents a variant or a baseline, if there is one."""
    return next((evaluation for evaluation in evaluations if evaluation.reference), None)


def comparison_with(evaluation: Evaluation, against: str) -> Comparison | None:
    """Return the comparison with the variant or baseline of that name, if they were evaluated together."""
    return next((c for c in evaluation.comparisons if c.against == against), None)


def manifest_schema() -> str:
    """Return the JSON schema of `manifest.json`, as JSON."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Manifest.model_json_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(manifest_schema())
