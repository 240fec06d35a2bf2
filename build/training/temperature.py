"""Calibrated probabilities: one temperature, which a network's logits are divided by.

Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017. The temperature is folded
into the last layer, so it costs nothing at run time, and everything made from the weights has it.
"""

import numpy as np
from numpy.typing import NDArray

from build.network.model import LayerWeights
from service.inference.classifier import softmax

LEAST_PHOTOS = 30
"""Fewer photos determine a temperature too roughly: docs/build.md has the measurements."""
_LOWEST, _HIGHEST = 1e-3, 1e3
_HALVINGS = 60
_DIGITS = 4


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.intp]) -> float | None:
    """Return the temperature that minimizes the cross-entropy of some photos, given their logits.

    `logits`: float32[photos, classes]; `labels`: the true indices [photos]. Every label counts as slightly
    less than certain, by the number of photos (Platt, "Probabilistic Outputs for Support Vector Machines",
    1999): otherwise the temperature would be 0 if all photos are classified correctly. Returns None if there
    are fewer than `LEAST_PHOTOS` photos, or if the logits don't tell the classes apart at all.
    """
    count, classes = logits.shape
    if count < LEAST_PHOTOS:
        return None
    doubt = 1 / (count + 2)
    target = np.full(logits.shape, doubt / (classes - 1))
    target[np.arange(count), labels] = 1 - doubt

    def slope(temperature: float) -> float:
        """Return the slope of the cross-entropy, which is convex, over 1/temperature: it rises with that."""
        return float(((softmax(logits / temperature) - target) * logits).sum())

    low, high = _LOWEST, _HIGHEST
    if not slope(high) < 0 < slope(low):
        return None
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if slope(middle) < 0 else (middle, high)
    return round(middle, _DIGITS)


def at_temperature(layer: LayerWeights, temperature: float) -> LayerWeights:
    """Return the layer that computes the logits, with its logits divided by the temperature."""
    return LayerWeights(layer.kernel / temperature, layer.bias / temperature)
