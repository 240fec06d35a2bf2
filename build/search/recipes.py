"""A search from photos to a recipe."""

import json
import os
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from build.errors import BuildError, first_fault
from build.network.weights import Network
from build.photos.data import PhotoSet
from build.photos.pixels import pixels_of
from build.quantization.bias_correction import mean_inputs
from build.quantization.convert import convert_int8
from build.quantization.int8 import quantize_after_training
from build.quantization.recipe import ActivationType, Recipe, WeightType
from build.search.method import Method
from build.search.methods import differentiable, greedy, uniform
from build.search.noise import NoisyNetwork
from build.search.size import Packing, entropies, of_size
from service.bundle.folder import SEEN_DIGITS

# As the recipes that come along.
_REPRESENTATIVE = 500
# How many photos each layer alone is measured on, five times: as many as the other takes would be hours.
_GREEDY = 64


def new_recipe(path: Path, wire: Literal["zstd"] | None = "zstd") -> Recipe:
    """What a search fills: int8, for a variant named as the file `path`, NAME.toml; `wire` is the recipe's.

    Raises:
        BuildError: no variant can be named so, it is no .toml file, there is such a file, or it can't be
            written.
    """
    if path.suffix != ".toml":
        raise BuildError(f"a recipe is a .toml file; {path} is none")
    if path.exists():
        raise BuildError(f"{path} is there; remove it, or name another file")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise BuildError(f"{path} can't be written: {path.parent} is no folder that can be written to")
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
    """The recipe with the steps by which its packed file comes to about `most` bytes.

    `recipe` is of int8 without steps; `photos` are calibrated on, and losses measured on them. Training
    is not thought of, and moves the size by some kB.

    Raises:
        BuildError: the network takes more bytes than that whatever its weights are.
    """
    weights, pixels = network.weights, pixels_of(photos, network.preprocessing)
    int8 = quantize_after_training(recipe, weights, pixels[: recipe.representative_images])
    means = mean_inputs(weights, list(weights), pixels)
    packing = Packing(convert_int8(int8, pixels.shape[1]), weights, means)
    even = of_size(packing, uniform(weights, 8.0 * most), most)
    # What is left for the weights when the graph, the scales and the biases have theirs.
    bits = float(entropies(weights, even).sum())
    match method:
        case Method.UNIFORM:
            steps = even
        case Method.GREEDY:
            steps = greedy(weights, NoisyNetwork(weights, pixels[:_GREEDY]), bits)
        case Method.DIFFERENTIABLE:
            steps = differentiable(weights, NoisyNetwork(weights, pixels), bits)
    seen = frozenset(photo.sha256[:SEEN_DIGITS] for photo in photos.photos)
    return recipe.model_copy(update={"weight_steps": of_size(packing, steps, most), "searched_on": seen})


def recipe_text(recipe: Recipe, comment: str) -> str:
    """A recipe that was searched as TOML, behind a comment of one line."""
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
