"""Probabilities that can be believed: one temperature, which a network's logits are divided by.

Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017. It is folded into the
last layer, so that nothing has to be done at run time, and whatever is made of the weights has it.
"""

import numpy as np
from numpy.typing import NDArray

from build.network.model import LayerWeights
from service.inference.classifier import softmax

LEAST_PHOTOS = 30
"""Fewer tell a temperature too roughly: docs/build.md has what was measured."""
_LOWEST, _HIGHEST = 1e-3, 1e3
_HALVINGS = 60
_DIGITS = 4


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.intp]) -> float | None:
    """The temperature at which the cross-entropy of some photos is least, by their logits.

    `logits`: float32[photos, classes]; `labels`: the true indices [photos]. Every label counts for a little
    less than certain, by as much as n photos leave open (Platt, "Probabilistic Outputs for Support Vector
    Machines", 1999): otherwise the temperature would be 0 where all photos are told right. None where
    photos are fewer than `LEAST_PHOTOS`, or where the logits don't tell the classes at all.
    """
    count, classes = logits.shape
    if count < LEAST_PHOTOS:
        return None
    doubt = 1 / (count + 2)
    target = np.full(logits.shape, doubt / (classes - 1))
    target[np.arange(count), labels] = 1 - doubt

    def slope(temperature: float) -> float:
        """Of the cross-entropy over 1/temperature: it rises with that, since the cross-entropy is convex."""
        return float(((softmax(logits / temperature) - target) * logits).sum())

    low, high = _LOWEST, _HIGHEST
    if not slope(high) < 0 < slope(low):
        return None
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if slope(middle) < 0 else (middle, high)
    return round(middle, _DIGITS)


def at_temperature(layer: LayerWeights, temperature: float) -> LayerWeights:
    """The layer that gives the logits, with its logits divided by the temperature."""
    return LayerWeights(layer.kernel / temperature, layer.bias / temperature)
