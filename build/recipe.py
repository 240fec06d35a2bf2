"""Recipes: what is quantized to what, as TOML files.

`recipes/` holds those that come with edgewise; a path names one's own.
"""

import tomllib
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError, model_validator

from build.errors import BuildError, first_fault
from service.manifest import Precision, VariantName

RECIPES = Path(__file__).parent / "recipes"
# Golden vectors lie beside "pixels", by NumPy's savez; "start" is a baseline's name.
RESERVED_NAMES = frozenset({"pixels", "file", "allow_pickle", "start"})


class WeightType(StrEnum):
    """What weights are stored as."""

    FLOAT32 = "float32"
    INT8_PER_CHANNEL = "int8-per-channel"


class ActivationType(StrEnum):
    """What activations are computed in."""

    FLOAT32 = "float32"
    INT8 = "int8"


class Recipe(BaseModel):
    """One recipe: `name` becomes the variant's name and its file's.

    `representative_images`: how many photos the ranges of the activations are calibrated on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: VariantName
    weights: WeightType
    activations: ActivationType
    representative_images: NonNegativeInt = 0

    @property
    def precision(self) -> Precision:
        """The name of what comes out."""
        return Precision.INT8 if self.activations is ActivationType.INT8 else Precision.FLOAT32

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        if self.name in RESERVED_NAMES:
            raise ValueError(f"a variant can't be named {self.name}")
        integer_weights = self.weights is WeightType.INT8_PER_CHANNEL
        if integer_weights != (self.activations is ActivationType.INT8):
            raise ValueError("weights and activations must be both float32, or int8-per-channel and int8")
        if integer_weights != (self.representative_images > 0):
            raise ValueError(
                "representative_images must be above 0 for int8 activations, and left out otherwise"
            )
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
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise BuildError(
            f"there is no recipe {name!r}; there are: {known}, or the path of a .toml file"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BuildError(f"{path} can't be read: {error}") from None
    except ValidationError as error:
        raise BuildError(f"{path}: {first_fault(error)}") from None
