"""How many bytes the weights of a network take, by the steps of its layers."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from build.errors import BuildError
from build.network.model import Weights
from build.quantization.bias_correction import correct_by_means
from build.quantization.grids import grids_of, store_levels
from service.bundle.packing import pack

Steps = dict[str, float]
"""The step of each layer's weights, by its name."""
# Common factors are powers of this, up to some 10,000 and down to its inverse.
_FACTOR = 1.001
_FARTHEST = 9200
# How far below what it may take a file may end up.
_SLACK = 0.002
_TRIES = 8
# The slope of a layer's entropy is that between a step this much finer and one this much coarser.
_APART = 1.2


@dataclass(frozen=True)
class Packing:
    """An int8 file of a network, whose weights' steps can be exchanged; `means` of every layer's inputs."""

    content: bytes
    weights: Weights
    means: Mapping[str, NDArray[np.float32]]

    def size(self, steps: Mapping[str, float]) -> int:
        """Bytes of the file with those steps and with the biases that they need, packed."""
        grids = grids_of(self.weights, steps=steps)
        corrected = correct_by_means(self.weights, grids, self.means)
        return len(pack(store_levels(self.content, corrected, grids)))


def entropies(weights: Weights, steps: Mapping[str, float]) -> NDArray[np.float64]:
    """The bits of each layer's levels, if each of them took what its frequency in the layer is worth.

    Of as many levels as there are: int8 holds 255, but a search that stopped there would see no step that is
    finer as one that costs more.
    """
    return np.array([_entropy(weights[name].kernel / np.float32(step)) for name, step in steps.items()])


def entropy_slopes(weights: Weights, steps: Mapping[str, float]) -> NDArray[np.float64]:
    """By how many bits each layer's entropy falls while the logarithm of its step grows by one."""
    finer, coarser = scaled(steps, 1 / _APART), scaled(steps, _APART)
    fall = entropies(weights, finer) - entropies(weights, coarser)
    slopes: NDArray[np.float64] = fall / (2 * np.log(_APART))
    return slopes


def scaled(steps: Mapping[str, float], factor: float) -> Steps:
    """All steps larger by one factor."""
    return {name: factor * step for name, step in steps.items()}


def of_entropy(weights: Weights, steps: Mapping[str, float], bits: float) -> Steps:
    """The steps with the common factor by which the layers' entropies are `bits` together, or just below."""
    powers = range(-_FARTHEST, _FARTHEST + 1)
    index = bisect_left(
        powers, True, key=lambda power: entropies(weights, scaled(steps, _FACTOR**power)).sum() <= bits
    )
    return scaled(steps, _FACTOR ** powers[index])


def of_size(packing: Packing, steps: Mapping[str, float], most: int) -> Steps:
    """The steps with the common factor by which the packed file comes to `most` bytes, or just below.

    Where int8 can't take so many, they are fine ones.

    Raises:
        BuildError: the file is larger whatever the factor.
    """
    bits, fitting = 8.0 * most, dict[int, Steps]()
    for _ in range(_TRIES):
        found = of_entropy(packing.weights, steps, bits)
        size = packing.size(found)
        if size <= most:
            fitting[size] = found
        # A compressor takes little more than the entropy, and the rest of the file hardly changes.
        bits -= 8 * (size - (1 - _SLACK / 2) * most)
        if (1 - _SLACK) * most <= size <= most or bits <= 0:
            break
    if not fitting:
        raise BuildError("the network takes more bytes than that whatever its weights are; allow it more")
    return fitting[max(fitting)]


def _entropy(values: NDArray[np.float32]) -> float:
    levels = np.round(values.reshape(-1)).astype(np.int64)
    counts = np.bincount(levels - levels.min())
    counts = counts[counts > 0]
    return float((counts * -np.log2(counts / levels.size)).sum())
