"""Ways to choose the step of each layer's weights for a number of bits, all layers' entropies together."""

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from build.network.model import Weights
from build.search.noise import NoisyNetwork
from build.search.size import Steps, entropies, entropy_slopes, of_entropy, scaled

# What all start from: so many steps from zero to a layer's largest weight, as int8 has.
_FINEST = 127
# Of the greedy one: the first width has a quarter of int8's levels, each other half those of the one before.
_LADDER = tuple(2.0**k for k in range(1, 6))
# Of the differentiable one.
_ROUNDS = 5
_LAST_ROUNDS = 1
# How far a step moves in a round, at most: where a layer has next to no slope, the next round may find one.
_FARTHEST = 4.0


def uniform(weights: Weights, bits: float) -> Steps:
    """As many steps from zero to the largest weight in every layer."""
    return of_entropy(weights, _finest(weights), bits)


def greedy(weights: Weights, noisy: NoisyNetwork, bits: float) -> Steps:
    """Again and again the layer is made coarser by a bit that loses least for what that saves, by measure."""
    ladder = [scaled(_finest(weights), factor) for factor in _LADDER]
    names = list(weights)
    losses = np.array(
        [
            [noisy.loss({name: steps[name]}, seed=0) for steps in ladder]
            for name in tqdm(names, desc="each layer alone", unit="layer")
        ]
    )
    sizes = np.array([entropies(weights, steps) for steps in ladder]).T
    at = np.zeros(len(names), int)
    while sizes[range(len(names)), at].sum() > bits and (at < len(_LADDER) - 1).any():
        at[_cheapest(losses, sizes, at)] += 1
    return of_entropy(weights, {name: ladder[k][name] for name, k in zip(names, at, strict=True)}, bits)


def differentiable(weights: Weights, noisy: NoisyNetwork, bits: float) -> Steps:
    """Until a bit is worth as much in every layer, in nats of the loss.

    With a loss that grows as the square of a step, and so by its slope, one move by half of what the slopes'
    logarithms are apart would do. It is repeated while the steps grow to what the bits allow, since a layer's
    slope depends on its step, and on the noise of the others.
    """
    steps = _finest(weights)
    sizes = np.geomspace(entropies(weights, steps).sum(), bits, _ROUNDS)
    rounds = [*sizes[1:], *[bits] * _LAST_ROUNDS]
    for seed, size in enumerate(tqdm(rounds, desc="search", unit="round")):
        prices = noisy.slopes(steps, seed) / np.maximum(entropy_slopes(weights, steps), 1.0)
        steps = of_entropy(weights, _towards_one_price(steps, prices), size)
    return steps


def _finest(weights: Weights) -> Steps:
    # A layer of zeros has any step.
    return {name: float(np.abs(layer.kernel).max()) / _FINEST or 1.0 for name, layer in weights.items()}


def _cheapest(losses: NDArray[np.float64], sizes: NDArray[np.float64], at: NDArray[np.int_]) -> int:
    """The layer whose next width loses least for each bit that it saves.

    `losses` and `sizes`: [layers, widths]; `at`: the width that each layer has.
    """
    layers = range(len(at))
    after = np.minimum(at + 1, len(_LADDER) - 1)
    saved = sizes[layers, at] - sizes[layers, after]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (losses[layers, after] - losses[layers, at]) / saved
    return int(np.argmin(np.where(saved > 0, ratios, np.inf)))


def _towards_one_price(steps: Steps, prices: NDArray[np.float64]) -> Steps:
    """`prices`: of each layer, nats for a bit."""
    logarithms = np.log(np.maximum(prices, np.finfo(float).tiny))
    moves = (np.median(logarithms) - logarithms) / 2
    factors = np.exp(np.clip(moves, -np.log(_FARTHEST), np.log(_FARTHEST)))
    return {name: step * factor for (name, step), factor in zip(steps.items(), factors.tolist(), strict=True)}
