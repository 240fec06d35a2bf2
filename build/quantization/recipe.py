"""Recipes: TOML files that say what is quantized to what.

`recipes/` holds the included ones; any other is given by its path.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_serializer,
    model_validator,
)

from build.errors import BuildError
from service.bundle.folder import SEEN_DIGITS
from service.bundle.manifest import BASELINE, Precision, VariantName
from service.bundle.validation import first_fault

RECIPES = Path(__file__).parents[1] / "recipes"
# Golden vectors are stored next to "pixels" by NumPy's savez, which has parameters `file` and `allow_pickle`;
# "start" is a baseline's name; "auto" is a setting, "all" and "none" are build arguments of the image; the
# rest are columns of per_class.csv, which also has one for each variant.
RESERVED_NAMES = frozenset(
    {"pixels", "file", "allow_pickle", "start", "index", "class_id", "label", "images", "auto", "all", "none"}
)


class WeightType(StrEnum):
    """The type that weights are stored as."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8_PER_CHANNEL = "int8-per-channel"
    INT4_PER_CHANNEL = "int4-per-channel"


class ActivationType(StrEnum):
    """The type of the activations between operators."""

    FLOAT32 = "float32"
    INT8 = "int8"
    INT16 = "int16"


class RangeRule(StrEnum):
    """How the ranges of integer activations are chosen.

    `least-error`: by `build.quantization.ranges`. `converter`: by TFLite's converter, from the smallest to
    the largest value.
    """

    LEAST_ERROR = "least-error"
    CONVERTER = "converter"


_PRECISIONS = {
    (WeightType.FLOAT32, ActivationType.FLOAT32): Precision.FLOAT32,
    (WeightType.FLOAT16, ActivationType.FLOAT32): Precision.FLOAT16,
    (WeightType.INT8_PER_CHANNEL, ActivationType.FLOAT32): Precision.DYNAMIC,
    (WeightType.INT8_PER_CHANNEL, ActivationType.INT8): Precision.INT8,
    (WeightType.INT8_PER_CHANNEL, ActivationType.INT16): Precision.INT16X8,
    (WeightType.INT4_PER_CHANNEL, ActivationType.FLOAT32): Precision.INT4,
    (WeightType.INT4_PER_CHANNEL, ActivationType.INT8): Precision.INT4,
}
_RANGE_RULES = {ActivationType.INT8: RangeRule.LEAST_ERROR, ActivationType.INT16: RangeRule.CONVERTER}


def _range_rule(fields: dict[str, Any]) -> RangeRule | None:
    activations = fields.get("activations")
    return _RANGE_RULES.get(activations) if activations else None


_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


# The limit is larger than any weight of a network, and fits into float32.
_Step = Annotated[float, Field(gt=0, le=1e6)]


_SeenImage = Annotated[str, Field(pattern=f"^[0-9a-f]{{{SEEN_DIGITS}}}$")]

# Not the stem or the head: the file's input and output are int8.
_Block = Annotated[str, Field(pattern=r"^block[1-9][a-z]$")]


class QuantizationAwareTraining(BaseModel):
    """How long and how fast the quantized network is trained to answer like the float one.

    `epochs`: passes over the training photos, in batches of `batch_size`; `learning_rate`: Adam's peak.
    `range_rate`: how much further than a weight the logarithm of a range moves per step. Adam moves each
    variable by about the learning rate, which is a lot for a weight and next to nothing for a range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt
    learning_rate: _Positive
    batch_size: PositiveInt = 16
    range_rate: _Positive = 100.0


_Share = Annotated[float, Field(gt=0, lt=1)]


class Pruning(BaseModel):
    """Which weights become zero (`build.quantization.pruning`).

    `sparsity`: their share of the weights of the pruned layers; `keep`: patterns of names of layers that
    are not pruned, by default those that hold next to no bytes and tolerate little.
    The others are for recipes that train (`build.training.pruning`). `ramp`: the share of the steps over
    which the sparsity grows, half of them by default; `teacher`: whether the unpruned network teaches the
    pruned one in the remaining steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sparsity: _Share
    keep: tuple[str, ...] = ("stem_conv", "block[1-3]*", "*_dwconv2")
    ramp: _Share | None = None
    teacher: bool = False

    @field_serializer("keep")
    def _in_one_line(self, keep: tuple[str, ...]) -> str:
        return " ".join(keep)


class Recipe(BaseModel):
    """One recipe: `name` becomes the name of the variant and of its file.

    `representative_images`: on how many photos the ranges of activations are calibrated and the biases of
    coarse weights corrected; optional for int4 weights with float activations;
    `ranges`: how ranges are chosen, least-error by default for int8 activations;
    `weight_only`: whether int4 weights are unpacked to floats and used with float activations, which are
    then not rounded at run time;
    `weight_bits`, `weight_steps`: bits by layer, or the step between two levels, for a coarser grid
    (`build.quantization.grids`). The first pattern that matches a layer's name counts; layers without a
    match use the converter's grid. For int4 weights, the bits name the layers that keep 8;
    `large_weights`: the share of each output channel's weights that lie beyond the levels of `weight_bits`,
    on further ones, instead of being clipped;
    `searched_on`: the photos that steps or blocks were searched on, as the first digits of their SHA-256, so
    that nothing is evaluated on them;
    `float_blocks`: blocks, such as `block4a`, that are computed in float, with their weights on no grid; what
    goes into and comes out of them is int8;
    `pruning`: which weights of those grids become zero, none by default;
    `training`: quantization-aware training from there on, none by default;
    `wire`: how the bundle stores the file, unpacked by default;
    `like`: the file of another recipe, relative to this one's folder: it supplies the keys that are missing
    here, except the name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: VariantName
    weights: WeightType
    activations: ActivationType
    representative_images: NonNegativeInt = 0
    ranges: RangeRule | None = Field(default_factory=_range_rule)
    weight_only: bool = False
    weight_bits: dict[str, Annotated[int, Field(ge=2, le=8)]] = {}
    large_weights: _Share | None = None
    weight_steps: dict[str, _Step] = {}
    searched_on: frozenset[_SeenImage] = Field(frozenset(), exclude=True)
    float_blocks: tuple[_Block, ...] = ()
    pruning: Pruning | None = None
    training: QuantizationAwareTraining | None = None
    wire: Literal["zstd"] | None = None
    like: str | None = Field(None, exclude=True)

    @property
    def precision(self) -> Precision:
        """The precision of the resulting variant."""
        return Precision.MIXED if self.float_blocks else _PRECISIONS[self.weights, self.activations]

    @property
    def dynamic_range(self) -> bool:
        """Whether float activations are rounded at run time, in the range of their values."""
        integer = self.weights in (WeightType.INT8_PER_CHANNEL, WeightType.INT4_PER_CHANNEL)
        return integer and self.activations is ActivationType.FLOAT32 and not self.weight_only

    def settings(self) -> dict[str, str | int | float]:
        """Return every key that is set and its value as a manifest records them, a table's as `table.key`.

        `searched_on`, which is in the bundle's list of seen images, and `like` are left out.
        """
        flat: dict[str, Any] = {}
        for key, value in self.model_dump(mode="json").items():
            flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
        return set_keys(flat)

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        if self.name in RESERVED_NAMES:
            raise ValueError(f"a variant can't be named {self.name}")
        if (self.weights, self.activations) not in _PRECISIONS:
            needed = " or ".join(weights for weights, with_ in _PRECISIONS if with_ is self.activations)
            raise ValueError(f"{self.activations} activations need {needed} weights, not {self.weights}")
        if self.name == BASELINE and self.precision is not Precision.FLOAT32:
            raise ValueError(
                f"{BASELINE} must be float32, since all others are compared with it; rename this"
                f" {self.precision} one"
            )
        integer = self.activations is not ActivationType.FLOAT32
        if integer and not self.representative_images:
            raise ValueError("representative_images must be above 0 for integer activations")
        if self.representative_images and not integer and self.weights is not WeightType.INT4_PER_CHANNEL:
            raise ValueError(
                "representative_images are for integer activations and int4 weights; leave them out otherwise"
            )
        if not integer and self.ranges is not None:
            raise ValueError("ranges are for integer activations only; leave them out for float32 ones")
        if self.activations is ActivationType.INT16 and self.ranges is not RangeRule.CONVERTER:
            raise ValueError("int16 activations need the converter's ranges")
        return self

    @model_validator(mode="after")
    def _weights_can_be_made(self) -> Self:
        if self.weight_bits and self.weight_steps:
            raise ValueError("weights can have weight_bits or weight_steps, not both")
        if self.large_weights and not self.weight_bits:
            raise ValueError("large_weights lie beyond the levels of weight_bits; set weight_bits as well")
        if self.weights is WeightType.INT4_PER_CHANNEL:
            return self._int4_weights_can_be_made()
        if self.large_weights and set(self.weight_bits.values()) == {8}:
            raise ValueError("large_weights need layers with fewer than 8 bits, but weight_bits has none")
        if self.weight_only:
            raise ValueError("weight_only needs int4-per-channel weights and float32 activations")
        if (self.weight_bits or self.weight_steps) and self.ranges is not RangeRule.LEAST_ERROR:
            raise ValueError("weight_bits and weight_steps need least-error ranges of int8 activations")
        if self.training and self.ranges is not RangeRule.LEAST_ERROR:
            raise ValueError("training starts from least-error ranges of int8 activations")
        return self

    @model_validator(mode="after")
    def _weights_can_be_pruned(self) -> Self:
        if self.pruning is None:
            return self
        if self.weights is WeightType.INT4_PER_CHANNEL or not (self.weight_bits or self.weight_steps):
            raise ValueError("pruning needs int8-per-channel weights with weight_bits or weight_steps")
        if self.training is None and (self.pruning.ramp or self.pruning.teacher):
            raise ValueError("pruning.ramp and pruning.teacher are for recipes that train; leave them out")
        return self

    @model_validator(mode="after")
    def _blocks_can_stay_in_float(self) -> Self:
        if self.float_blocks:
            int8 = self.weights is WeightType.INT8_PER_CHANNEL and self.ranges is RangeRule.LEAST_ERROR
            if not int8:
                raise ValueError("float_blocks need int8-per-channel weights and least-error ranges")
            if self.training or self.pruning:
                raise ValueError("float_blocks can't be trained or pruned; leave out one or the other")
        if len(set(self.float_blocks)) < len(self.float_blocks):
            raise ValueError("float_blocks names a block more than once")
        return self

    @field_serializer("float_blocks", when_used="json")
    def _blocks_in_one_line(self, blocks: tuple[str, ...]) -> str | None:
        return " ".join(blocks) or None

    def _int4_weights_can_be_made(self) -> Self:
        if self.weight_only and self.activations is not ActivationType.FLOAT32:
            raise ValueError("weight_only needs int4-per-channel weights and float32 activations")
        if self.ranges is RangeRule.CONVERTER:
            raise ValueError("int8 activations with int4-per-channel weights need least-error ranges")
        if set(self.weight_bits.values()) - {8}:
            raise ValueError("with int4-per-channel weights, weight_bits only name layers that keep 8 bits")
        if self.weight_steps:
            raise ValueError("weight_steps need int8-per-channel weights")
        if self.large_weights:
            raise ValueError("large_weights need int8-per-channel weights: int4 has no levels for them")
        if self.training:
            raise ValueError("training needs int8-per-channel weights; weight_bits can round them to 4 bits")
        return self


def set_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that are set: without None and False, which mean the same as a missing key."""
    return {key: value for key, value in values.items() if value is not None and value is not False}


def load_recipes(names: Sequence[str]) -> list[Recipe]:
    """Return the recipes with the given names or paths.

    Raises:
        BuildError: there is no such recipe, one is not valid, or two have the same name.
    """
    recipes = [load_recipe(name) for name in names]
    for name, count in Counter(recipe.name for recipe in recipes).items():
        if count > 1:
            raise BuildError(f"{count} recipes are named {name}; give each its own name")
    return recipes


def load_recipe(name: str) -> Recipe:
    """Return the recipe with that name, or in the TOML file at that path.

    Raises:
        BuildError: the recipe does not exist or is not valid.
    """
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise BuildError(f"there is no recipe {name!r}; name one of {known}, or the path of a .toml file")
    keys = _keys(path, ())
    try:
        return Recipe.model_validate(keys)
    except ValidationError as error:
        raise BuildError(f"{path}: {first_fault(error)}") from None


def _keys(path: Path, before: tuple[Path, ...]) -> dict[str, Any]:
    """Return the keys of a file and of those that it is like; `before`: the files that lead to it."""
    if path in before:
        raise BuildError(f"{path} is like itself, through {before[-1]}")
    try:
        keys = tomllib.loads(path.read_text())
        if "like" not in keys:
            return keys
        like = (path.parent / str(keys["like"])).resolve()
    except (OSError, ValueError, RecursionError) as error:  # TOML and UTF-8 errors are ValueErrors.
        raise BuildError(f"{path} can't be read: {error}") from None
    inherited = _keys(like, (*before, path))
    inherited.pop("name", None)
    return inherited | keys
