"""Ways to choose the step of each layer's weights for a number of bits, the sum of all layers' entropies."""

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from build.network.model import Weights
from build.search.noise import NoisyNetwork
from build.search.size import Steps, entropies, entropy_slopes, of_entropy, scaled

# All methods start from this many steps from zero to a layer's largest weight, as int8 has.
_FINEST = 127
# For the greedy method: the first width has half of int8's levels, and each further one half as many.
_LADDER = tuple(2.0**k for k in range(1, 6))
# For the differentiable method.
_ROUNDS = 5
_LAST_ROUNDS = 1
# The largest factor by which a step changes in a round: a layer with almost no slope may get one in the next.
_FARTHEST = 4.0


def uniform(weights: Weights, bits: float) -> Steps:
    """Return steps of which every layer has the same number from zero to its largest weight."""
    return of_entropy(weights, _finest(weights), bits)


def greedy(weights: Weights, noisy: NoisyNetwork, bits: float) -> Steps:
    """Repeatedly make the layer coarser by one bit that loses least for what that saves, as measured."""
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
    while sizes[range(len(names)), at].sum() > bits and (layer := _cheapest(losses, sizes, at)) is not None:
        at[layer] += 1
    return of_entropy(weights, {name: ladder[k][name] for name, k in zip(names, at, strict=True)}, bits)


def differentiable(weights: Weights, noisy: NoisyNetwork, bits: float) -> Steps:
    """Move the steps until a bit is worth the same in every layer, in nats of the loss.

    If the loss grew exactly as the square of a step, and its slope with it, one move by half the difference
    between the slopes' logarithms would be enough. It is repeated while the steps grow to what the bits
    allow, since a layer's slope depends on its step and on the noise of the others.
    """
    steps = _finest(weights)
    sizes = np.geomspace(entropies(weights, steps).sum(), bits, _ROUNDS)
    rounds = [*sizes[1:], *[bits] * _LAST_ROUNDS]
    for seed, size in enumerate(tqdm(rounds, desc="search", unit="round")):
        prices = noisy.slopes(steps, seed) / np.maximum(entropy_slopes(weights, steps), 1.0)
        steps = of_entropy(weights, _towards_one_price(steps, prices), size)
    return steps


def _finest(weights: Weights) -> Steps:
    # Any step will do for a layer of zeros.
    return {name: float(np.abs(layer.kernel).max()) / _FINEST or 1.0 for name, layer in weights.items()}


def _cheapest(losses: NDArray[np.float64], sizes: NDArray[np.float64], at: NDArray[np.int_]) -> int | None:
    """Return the index of the layer whose next width loses least per bit that it saves; None if none saves.

    `losses` and `sizes`: [layers, widths]; `at`: the current width of each layer.
    """
    layers = range(len(at))
    after = np.minimum(at + 1, len(_LADDER) - 1)
    saved = sizes[layers, at] - sizes[layers, after]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (losses[layers, after] - losses[layers, at]) / saved
    return int(np.argmin(np.where(saved > 0, ratios, np.inf))) if (saved > 0).any() else None


def _towards_one_price(steps: Steps, prices: NDArray[np.float64]) -> Steps:
    """Return the steps, moved towards the same price in every layer; `prices`: nats per bit by layer."""
    logarithms = np.log(np.maximum(prices, np.finfo(float).tiny))
    moves = (np.median(logarithms) - logarithms) / 2
    factors = np.exp(np.clip(moves, -np.log(_FARTHEST), np.log(_FARTHEST)))
    return {name: step * factor for (name, step), factor in zip(steps.items(), factors.tolist(), strict=True)}
