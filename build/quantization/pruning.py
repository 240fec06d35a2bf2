"""Pruning: weights become zero, and then take next to no bytes once the file is packed.

Single weights are pruned, by their magnitude (Han, Pool, Tran, Dally, "Learning both Weights and Connections
for Efficient Neural Networks", 2015), over all pruned layers at once. A weight's magnitude is measured in
steps of its channel's grid. A step tells what an error costs there, as searched steps do by construction, so
a layer that tolerates coarse weights loses more of them than one that does not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from build.errors import BuildError
from build.network.model import Weights
from build.quantization.grids import Grid, in_steps


def pruned_layers(with_grid: Iterable[str], keep: Sequence[str]) -> list[str]:
    """Return the layers with a grid whose names match no pattern of `keep`.

    Raises:
        BuildError: no layer is left to prune.
    """
    layers = [name for name in with_grid if not any(fnmatchcase(name, pattern) for pattern in keep)]
    if not layers:
        raise BuildError("pruning: no layer is left to prune; give a grid to one that keep does not match")
    return layers


def prune(
    weights: Weights, grids: Mapping[str, Grid], sparsity: float, keep: Sequence[str]
) -> dict[str, Grid]:
    """Return the grids with the smallest weights pruned: the share `sparsity` of all in the pruned layers.

    Layers without a grid are not pruned, nor are those whose names match a pattern of `keep`. Weights that
    round to zero anyway are among the smallest, and count.

    Raises:
        BuildError: no layer is left to prune.
    """
    magnitudes = {name: np.abs(in_steps(weights[name], grids[name])) for name in pruned_layers(grids, keep)}
    every = np.concatenate([magnitude.reshape(-1) for magnitude in magnitudes.values()])
    count = round(sparsity * every.size)
    largest = np.partition(every, count - 1)[count - 1] if count else -1.0
    return {
        name: replace(grid, kept=magnitudes[name] > largest) if name in magnitudes else grid
        for name, grid in grids.items()
    }
