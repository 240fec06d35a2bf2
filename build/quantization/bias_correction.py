"""Bias correction: biases compensate for the mean shift that rounding their layer's weights causes.

Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, with means that are measured on photos.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from build.network.model import LayerWeights, Weights, network, normalise, set_weights
from build.quantization.grids import Grid, on_grids

_BATCH = 20


def correct_biases(weights: Weights, grids: Mapping[str, Grid], pixels: NDArray[np.uint8]) -> Weights:
    """Return the weights, with the biases in `grids` moved so that rounding shifts no channel's mean.

    `pixels`: uint8[n, size, size, 3]. A layer's inputs are those of the float network; the zeros that pad
    them at the image's border are treated like inputs from its middle.
    """
    return correct_by_means(weights, grids, mean_inputs(weights, list(grids), pixels))


def correct_by_means(
    weights: Weights, grids: Mapping[str, Grid], means: Mapping[str, NDArray[np.float32]]
) -> Weights:
    """Return what `correct_biases` does, given the layers' `mean_inputs`."""
    rounded = on_grids(weights, grids)
    return weights | {name: _corrected(weights[name], rounded[name], means[name]) for name in grids}


def mean_inputs(
    weights: Weights, layers: Sequence[str], pixels: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    """Return each layer's input channels, averaged over all photos and positions: float32[channels] each.

    `pixels`: uint8[n, size, size, 3].
    """
    if not layers:
        return {}
    model = network(pixels.shape[1], weights["predictions"].bias.size)
    set_weights(model, weights)
    inputs = tf_keras.Model(model.input, [model.get_layer(name).input for name in layers])

    @tf.function
    def sums(batch: Any) -> Any:
        tensors = inputs(normalise(batch))
        means = [tf.reduce_mean(x, range(1, x.shape.rank - 1)) for x in tf.nest.flatten(tensors)]
        return [tf.reduce_sum(mean, 0) for mean in means]

    totals = [sums(tf.constant(pixels[i : i + _BATCH])) for i in range(0, len(pixels), _BATCH)]
    return {
        name: np.sum([total.numpy() for total in of_layer], 0) / np.float32(len(pixels))
        for name, of_layer in zip(layers, zip(*totals, strict=True), strict=True)
    }


def _corrected(layer: LayerWeights, rounded: LayerWeights, mean: NDArray[np.float32]) -> LayerWeights:
    """Return a layer with the bias that compensates for its rounding; `mean`: of its input channels."""
    error = rounded.kernel - layer.kernel
    of_pair = mean[:, np.newaxis] * (error.sum(axis=(0, 1)) if error.ndim == 4 else error)
    # A depthwise layer's channels are those of its input, with one output each.
    is_depthwise = of_pair.shape[1] != layer.bias.size
    return LayerWeights(layer.kernel, layer.bias - of_pair.sum(axis=1 if is_depthwise else 0))
