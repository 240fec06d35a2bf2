"""A network as its int8 file computes it, and how to get there without training."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from build.errors import BuildError
from build.network.model import Weights, block_of, within
from build.quantization.bias_correction import correct_biases
from build.quantization.grids import Grid, grids_of
from build.quantization.pruning import prune
from build.quantization.ranges import Range, calibrate
from build.quantization.recipe import Recipe


@dataclass(frozen=True)
class Int8Network:
    """What an int8 file is made from.

    `weights`: biases, and float kernels that are still to be rounded, to `grids` or by the converter;
    `ranges`: of all activations by name, except those that stay in float; `grids`: of kernels by layer, if
    they are not the converter's.
    """

    weights: Weights
    ranges: dict[str, Range]
    grids: dict[str, Grid]


def quantize_after_training(
    recipe: Recipe, weights: Weights, representative: NDArray[np.uint8]
) -> Int8Network:
    """Return the network of a recipe with least-error ranges, before any training that the recipe has.

    If the recipe does not train, the network is already pruned; otherwise its training does that.
    `representative`: uint8[n, size, size, 3].

    Raises:
        BuildError: an activation is infinite or NaN, a pattern of the recipe matches no layer, no layer is
            left to prune, or the network lacks one of the recipe's blocks.
    """
    check_blocks(weights, recipe.float_blocks)
    grids = grids_of(weights, recipe.weight_bits, recipe.weight_steps, recipe.large_weights)
    if recipe.pruning:
        sparsity = 0.0 if recipe.training else recipe.pruning.sparsity
        grids = prune(weights, grids, sparsity, recipe.pruning.keep)
    grids = {name: grid for name, grid in grids.items() if block_of(name) not in recipe.float_blocks}
    corrected = correct_biases(weights, grids, representative)
    ranges = calibrate(weights, representative)
    in_float = within(recipe.float_blocks, list(ranges))
    return Int8Network(corrected, {name: ranges[name] for name in ranges if name not in in_float}, grids)


def check_blocks(weights: Weights, blocks: Collection[str]) -> None:
    """Check that the network has each block.

    Raises:
        BuildError: it lacks one; the message names it.
    """
    there = sorted(set(map(block_of, weights)) - {"stem", "head"})
    for block in blocks:
        if block not in there:
            raise BuildError(f"float_blocks has {block}, but the network has {', '.join(there)}")
