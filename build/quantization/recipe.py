"""Recipes: what is quantized to what, as TOML files.

`recipes/` holds those that come with edgewise; a path names one's own.
"""

import tomllib
from collections import Counter
from collections.abc import Sequence
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

from build.errors import BuildError, first_fault
from service.bundle.folder import SEEN_DIGITS
from service.bundle.manifest import BASELINE, Precision, VariantName

RECIPES = Path(__file__).parents[1] / "recipes"
# Golden vectors lie beside "pixels", by NumPy's savez; "start" is a baseline's name; the rest are columns
# of per_class.csv, beside which each variant has one. EDGEWISE_VARIANT=auto measures; "all" and "none" are
# what an image's VARIANTS can be beside names.
RESERVED_NAMES = frozenset(
    {"pixels", "file", "allow_pickle", "start", "index", "class_id", "label", "images", "auto", "all", "none"}
)


class WeightType(StrEnum):
    """What weights are stored as."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8_PER_CHANNEL = "int8-per-channel"
    INT4_PER_CHANNEL = "int4-per-channel"


class ActivationType(StrEnum):
    """What activations are held in between two operators."""

    FLOAT32 = "float32"
    INT8 = "int8"
    INT16 = "int16"


class RangeRule(StrEnum):
    """How the ranges of integer activations are chosen.

    `least-error`: as `build.quantization.ranges` does. `converter`: as TFLite's converter does by itself,
    from the least to the largest value.
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


# Beyond any weight of a network, and within float32's numbers.
_Step = Annotated[float, Field(gt=0, le=1e6)]


_SeenImage = Annotated[str, Field(pattern=f"^[0-9a-f]{{{SEEN_DIGITS}}}$")]

# Not the stem or the head: the file's input and output are int8.
_Block = Annotated[str, Field(pattern=r"^block[1-9][a-z]$")]


class QuantizationAwareTraining(BaseModel):
    """How long and how fast the quantized network learns to answer as the float one does.

    `epochs` are of the photos to train on, in batches of `batch_size`; `learning_rate` is Adam's peak.
    `range_rate`: how much further than a weight the logarithm of a range moves in a step.
    Adam moves each variable by about the learning rate: much for a weight, next to nothing for a range.
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
    are not pruned, by default those that hold next to no bytes and bear little.
    Where the recipe trains, `ramp` is the share of its steps over which the sparsity grows, half of them
    where it does not say, and `teacher` whether the unpruned network teaches the pruned one in the rest
    (`build.training.pruning`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sparsity: _Share
    keep: tuple[str, ...] = ("stem_conv", "block[1-3]*", "*_dwconv2")
    ramp: _Share | None = Field(None, exclude_if=lambda ramp: ramp is None)
    teacher: bool = Field(False, exclude_if=lambda teacher: not teacher)

    @field_serializer("keep")
    def _in_one_line(self, keep: tuple[str, ...]) -> str:
        return " ".join(keep)


class Recipe(BaseModel):
    """One recipe: `name` becomes the variant's name and its file's.

    `representative_images`: how many photos the ranges of the activations are calibrated on, and the biases
    beside coarse weights corrected by; with float activations, int4 weights may go without;
    `ranges`: how they are chosen, least-error where a recipe with int8 activations does not say;
    `weight_only`: whether float activations meet int4 weights as floats, unpacked, and are not rounded
    themselves as they come;
    `weight_bits`, `weight_steps`: bits by layer, or the step between two levels, for a coarser grid
    (`build.quantization.grids`): the first pattern that fits a layer's name counts; where none does, or a
    recipe does not say, the grid is the converter's. Of int4 weights, the bits name the layers that keep 8;
    `large_weights`: which share of each output channel's weights lies beyond the levels of `weight_bits`, on
    further ones, in place of steps that clip them;
    `searched_on`: of the photos that steps or blocks were searched on, the first digits of their SHA-256, so
    that nothing is evaluated on them;
    `float_blocks`: blocks, `block4a` say, that are computed in float, their weights on no grid, while what
    they take and give is int8;
    `pruning`: which weights of those grids become zero, none where a recipe does not say;
    `training`: quantization-aware training from there, none where a recipe does not say;
    `wire`: how the bundle holds the file, as it is where a recipe does not say;
    `like`: the file, as seen from the recipe's own, of one that has the keys, but the name, which it lacks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: VariantName
    weights: WeightType
    activations: ActivationType
    representative_images: NonNegativeInt = 0
    ranges: RangeRule | None = Field(default_factory=_range_rule, exclude_if=lambda rule: rule is None)
    weight_only: bool = Field(False, exclude_if=lambda only: not only)
    weight_bits: dict[str, Annotated[int, Field(ge=2, le=8)]] = Field({}, exclude_if=lambda bits: not bits)
    large_weights: _Share | None = Field(None, exclude_if=lambda share: share is None)
    weight_steps: dict[str, _Step] = Field({}, exclude_if=lambda steps: not steps)
    searched_on: frozenset[_SeenImage] = Field(frozenset(), exclude=True)
    float_blocks: tuple[_Block, ...] = Field((), exclude_if=lambda blocks: not blocks)
    pruning: Pruning | None = Field(None, exclude_if=lambda pruning: pruning is None)
    training: QuantizationAwareTraining | None = Field(None, exclude_if=lambda training: training is None)
    wire: Literal["zstd"] | None = Field(None, exclude_if=lambda wire: wire is None)
    like: str | None = Field(None, exclude=True)

    @property
    def precision(self) -> Precision:
        """The name of what comes out."""
        return Precision.MIXED if self.float_blocks else _PRECISIONS[self.weights, self.activations]

    @property
    def dynamic_range(self) -> bool:
        """Whether float activations are rounded as they come, in the range of their values."""
        integer = self.weights in (WeightType.INT8_PER_CHANNEL, WeightType.INT4_PER_CHANNEL)
        return integer and self.activations is ActivationType.FLOAT32 and not self.weight_only

    def settings(self) -> dict[str, str | int | float]:
        """Every key and its value, those of a table as `table.key`, as a manifest records them.

        But for `searched_on`, which the bundle's list of seen images has, and for `like`.
        """
        flat: dict[str, str | int | float] = {}
        for key, value in self.model_dump(mode="json").items():
            flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
        return flat

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        if self.name in RESERVED_NAMES:
            raise ValueError(f"a variant can't be named {self.name}")
        if (self.weights, self.activations) not in _PRECISIONS:
            needed = " or ".join(weights for weights, with_ in _PRECISIONS if with_ is self.activations)
            raise ValueError(f"{self.activations} activations need {needed} weights, not {self.weights}")
        if self.name == BASELINE and self.precision is not Precision.FLOAT32:
            raise ValueError(
                f"{BASELINE} is float32, what all others are compared with; name another {self.precision}"
            )
        integer = self.activations is not ActivationType.FLOAT32
        if integer and not self.representative_images:
            raise ValueError("representative_images must be above 0 for integer activations")
        if self.representative_images and not integer and self.weights is not WeightType.INT4_PER_CHANNEL:
            raise ValueError(
                "representative_images are for integer activations and int4 weights; leave them out otherwise"
            )
        if not integer and self.ranges is not None:
            raise ValueError("ranges are those of integer activations; leave them out for float32 ones")
        if self.activations is ActivationType.INT16 and self.ranges is not RangeRule.CONVERTER:
            raise ValueError("int16 activations are in the converter's ranges")
        return self

    @model_validator(mode="after")
    def _weights_can_be_made(self) -> Self:
        if self.weight_bits and self.weight_steps:
            raise ValueError("weights have weight_bits or weight_steps, not both")
        if self.large_weights and not self.weight_bits:
            raise ValueError("large_weights are those beyond the levels of weight_bits; give these as well")
        if self.weights is WeightType.INT4_PER_CHANNEL:
            return self._int4_weights_can_be_made()
        if self.large_weights and set(self.weight_bits.values()) == {8}:
            raise ValueError(
                "large_weights are those beyond the levels of fewer than 8 bits; weight_bits has none"
            )
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
            raise ValueError("pruning.ramp and pruning.teacher are of recipes that train; leave them out")
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
            raise ValueError("float_blocks has a block more than once")
        return self

    @field_serializer("float_blocks")
    def _blocks_in_one_line(self, blocks: tuple[str, ...]) -> str:
        return " ".join(blocks)

    def _int4_weights_can_be_made(self) -> Self:
        if self.weight_only and self.activations is not ActivationType.FLOAT32:
            raise ValueError("weight_only needs int4-per-channel weights and float32 activations")
        if self.ranges is RangeRule.CONVERTER:
            raise ValueError("the ranges of int8 activations of int4-per-channel weights are least-error")
        if set(self.weight_bits.values()) - {8}:
            raise ValueError("weight_bits of int4-per-channel weights name the layers that keep 8 bits")
        if self.weight_steps:
            raise ValueError("weight_steps need int8-per-channel weights")
        if self.large_weights:
            raise ValueError("large_weights need int8-per-channel weights: int4 has no levels for them")
        if self.training:
            raise ValueError("training needs int8-per-channel weights; weight_bits can have them on 4 bits")
        return self


def load_recipes(names: Sequence[str]) -> list[Recipe]:
    """The recipes of those names or paths.

    Raises:
        BuildError: there is no such recipe, one is not valid, or two have the same name.
    """
    recipes = [load_recipe(name) for name in names]
    for name, count in Counter(recipe.name for recipe in recipes).items():
        if count > 1:
            raise BuildError(f"{count} of the recipes are named {name}; give each a name of its own")
    return recipes


def load_recipe(name: str) -> Recipe:
    """The recipe of that name, or in the TOML file of that path.

    Raises:
        BuildError: there is none, or it is not valid.
    """
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise BuildError(f"there is no recipe {name!r}; there are: {known}, or the path of a .toml file")
    keys = _keys(path, ())
    try:
        return Recipe.model_validate(keys)
    except ValidationError as error:
        raise BuildError(f"{path}: {first_fault(error)}") from None


def _keys(path: Path, before: tuple[Path, ...]) -> dict[str, Any]:
    """The keys of a file, and of those that it is like; `before`: the files that lead to it."""
    if path in before:
        raise BuildError(f"{path} is like itself, by way of {before[-1]}")
    try:
        keys = tomllib.loads(path.read_text())
        if "like" not in keys:
            return keys
        like = (path.parent / str(keys["like"])).resolve()
    except (OSError, ValueError, RecursionError) as error:  # A TOML error is a ValueError, and one of UTF-8.
        raise BuildError(f"{path} can't be read: {error}") from None
    inherited = _keys(like, (*before, path))
    inherited.pop("name", None)
    return inherited | keys
