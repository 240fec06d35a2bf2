"""A search, from photos to a recipe."""

import json
import os
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from build.errors import BuildError
from build.network.weights import Network
from build.photos.data import PhotoSet, seen_keys
from build.photos.pixels import pixels_of
from build.quantization.bias_correction import mean_inputs
from build.quantization.convert import convert_int8
from build.quantization.int8 import quantize_after_training
from build.quantization.recipe import ActivationType, Recipe, WeightType
from build.search.method import Method
from build.search.methods import differentiable, greedy, uniform
from build.search.noise import NoisyNetwork
from build.search.size import Packing, entropies, of_size
from service.bundle.validation import first_fault

# As in the included recipes.
_REPRESENTATIVE = 500
# How many photos each layer is measured on alone, five times; the other method's number would take hours.
_GREEDY = 64


def new_recipe(path: Path, wire: Literal["zstd"] | None = "zstd") -> Recipe:
    """Return the int8 recipe that a search fills in, named after its file `path`; `wire` is the recipe's.

    Raises:
        BuildError: no variant can have that name, the file is not a .toml file, already exists, or can't be
            written.
    """
    if path.suffix != ".toml":
        raise BuildError(f"a recipe is a .toml file, but {path} is not")
    if path.exists():
        raise BuildError(f"{path} already exists; remove it, or name another file")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise BuildError(f"{path} can't be written: {path.parent} is not a writable folder")
    try:
        return Recipe(
            name=path.stem,
            weights=WeightType.INT8_PER_CHANNEL,
            activations=ActivationType.INT8,
            representative_images=_REPRESENTATIVE,
            wire=wire,
        )
    except ValidationError as error:
        raise BuildError(f"{path}: {first_fault(error)}") from None


def search_steps(network: Network, recipe: Recipe, photos: PhotoSet, method: Method, most: int) -> Recipe:
    """Return the recipe with the steps that make its packed file about `most` bytes.

    `recipe` must be int8 without steps. Ranges are calibrated, and losses measured, on `photos`. Later
    training is not taken into account; it changes the size by some kB.

    Raises:
        BuildError: the network takes more bytes than that with any weights.
    """
    weights, pixels = network.weights, pixels_of(photos, network.preprocessing)
    int8 = quantize_after_training(recipe, weights, pixels[: recipe.representative_images])
    means = mean_inputs(weights, list(weights), pixels)
    packing = Packing(convert_int8(int8, pixels.shape[1]), weights, means)
    even = of_size(packing, uniform(weights, 8.0 * most), most)
    # What is left for the weights, besides the graph, the scales and the biases.
    bits = float(entropies(weights, even).sum())
    match method:
        case Method.UNIFORM:
            steps = even
        case Method.GREEDY:
            steps = greedy(weights, NoisyNetwork(weights, pixels[:_GREEDY]), bits)
        case Method.DIFFERENTIABLE:
            steps = differentiable(weights, NoisyNetwork(weights, pixels), bits)
    seen = seen_keys(photos.photos)
    return recipe.model_copy(update={"weight_steps": of_size(packing, steps, most), "searched_on": seen})


def recipe_text(recipe: Recipe, comment: str) -> str:
    """Return a searched recipe as TOML, below a comment of one line."""
    lines = [
        f"# {comment}",
        *(f'{key} = "{getattr(recipe, key)}"' for key in ("name", "weights", "activations")),
        f"representative_images = {recipe.representative_images}",
    ]
    if recipe.wire:
        lines.append(f'wire = "{recipe.wire}"')
    if recipe.float_blocks:
        lines.append(f"float_blocks = {json.dumps(recipe.float_blocks)}")
    lines += ["searched_on = [", *(f'    "{digits}",' for digits in sorted(recipe.searched_on)), "]", ""]
    if recipe.weight_steps:
        steps = (f"{layer} = {step:.5g}" for layer, step in recipe.weight_steps.items())
        lines += ["[weight_steps]", *steps, ""]
    return "\n".join(lines)
