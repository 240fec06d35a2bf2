"""How many bytes a network's weights take, given the steps of its layers."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from build.errors import BuildError
from build.network.model import Weights
from build.packing import pack
from build.quantization.bias_correction import correct_by_means
from build.quantization.grids import grids_of, store_levels

Steps = dict[str, float]
"""The step of each layer's weights, by its name."""
# Common factors are powers of this, from about 1/10,000 to 10,000.
_FACTOR = 1.001
_FARTHEST = 9200
# How far below its limit a file may end up, as a share of it.
_SLACK = 0.002
_TRIES = 8
# The slope of a layer's entropy is measured between a step finer and one coarser by this factor.
_APART = 1.2


@dataclass(frozen=True)
class Packing:
    """An int8 file of a network whose weight steps can be replaced; `means`: of every layer's inputs."""

    content: bytes
    weights: Weights
    means: Mapping[str, NDArray[np.float32]]

    def size(self, steps: Mapping[str, float]) -> int:
        """Return the packed size, in bytes, of the file with those steps and the biases that they need."""
        grids = grids_of(self.weights, steps=steps)
        corrected = correct_by_means(self.weights, grids, self.means)
        return len(pack(store_levels(self.content, corrected, grids)))


def entropies(weights: Weights, steps: Mapping[str, float]) -> NDArray[np.float64]:
    """Return the total entropy of each layer's levels, in bits: float64[layers].

    Levels are not limited to the 255 of int8: otherwise a search would not see that finer steps cost more.
    """
    return np.array([_entropy(weights[name].kernel / np.float32(step)) for name, step in steps.items()])


def entropy_slopes(weights: Weights, steps: Mapping[str, float]) -> NDArray[np.float64]:
    """Return by how many bits each layer's entropy falls when the logarithm of its step grows by one."""
    finer, coarser = scaled(steps, 1 / _APART), scaled(steps, _APART)
    fall = entropies(weights, finer) - entropies(weights, coarser)
    slopes: NDArray[np.float64] = fall / (2 * np.log(_APART))
    return slopes


def scaled(steps: Mapping[str, float], factor: float) -> Steps:
    """Return all steps multiplied by one factor."""
    return {name: factor * step for name, step in steps.items()}


def of_entropy(weights: Weights, steps: Mapping[str, float], bits: float) -> Steps:
    """Return the steps, scaled by the factor that makes the layers' entropies sum to `bits` or just less."""
    powers = range(-_FARTHEST, _FARTHEST + 1)
    index = bisect_left(
        powers, True, key=lambda power: entropies(weights, scaled(steps, _FACTOR**power)).sum() <= bits
    )
    return scaled(steps, _FACTOR ** powers[index])


def of_size(packing: Packing, steps: Mapping[str, float], most: int) -> Steps:
    """Return the steps, scaled by the factor that makes the packed file `most` bytes or just less.

    If int8 weights can't take that many, the steps are fine ones.

    Raises:
        BuildError: the file is larger with any factor.
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
        raise BuildError("the network takes more bytes than that with any weights; allow more")
    return fitting[max(fitting)]


def _entropy(values: NDArray[np.float32]) -> float:
    levels = np.round(values.reshape(-1)).astype(np.int64)
    counts = np.bincount(levels - levels.min())
    counts = counts[counts > 0]
    return float((counts * -np.log2(counts / levels.size)).sum())
