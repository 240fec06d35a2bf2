"""A user's layers, matched by their names with those of Keras' own model."""

from collections.abc import Mapping, Sequence

import numpy as np
import tf_keras
from numpy.typing import NDArray

from build.network.architecture import ARCHITECTURE
from build.network.model import keras_model

HEAD = "predictions"
SAVE_WHOLE = "save the whole model with model.save('mine.keras')"
_TAKEN = (
    f"build takes {ARCHITECTURE} with a head of global average pooling, dropout and one Dense layer, with"
    " softmax or no activation; convert any other network to TFLite and use `build import`"
)
# Keras' default: a weights file does not say which its BatchNorm layers have.
_EPSILON = 1e-3

Arrays = Sequence[NDArray[np.float32]]
"""A layer's weights as Keras' `get_weights` gives them, in its order."""


class UnfitError(ValueError):
    """The build stage can't take a file; the message says why and what to do, without the file's name."""


def unfit(reason: str) -> UnfitError:
    """Return the error for a network that is not the one that the build stage takes."""
    return UnfitError(f"{reason}: {_TAKEN}")


def filled(layers: Mapping[str, Arrays], size: int) -> tf_keras.Model:
    """Return Keras' own model, from pixels to logits, with the weights of `layers` by their names.

    `size` is the input's side in pixels. Layers that this model does not have are the head: a Dense layer
    with any name and, if there is one, the BatchNorm between it and the pooling, which is folded into it.

    Raises:
        UnfitError: the layers are not those of this architecture with such a head.
    """
    dense = [name for name, (kernel, *_) in layers.items() if kernel.ndim == 2]
    if len(dense) != 1:
        raise unfit(f"has {len(dense) or 'no'} Dense layers")
    kernel = layers[dense[0]][0]
    if kernel.shape[1] == 1:
        raise UnfitError(
            "has a single output: train with one for each of the two classes: Dense(2, activation='softmax')"
        )
    model = keras_model(size, kernel.shape[1])
    own = {layer.name: layer for layer in model.layers if layer.weights and layer.name != HEAD}
    for name, layer in own.items():
        if name not in layers:
            raise unfit(f"is not {ARCHITECTURE}, since it has no layer {name}")
        if [array.shape for array in layers[name]] != [tuple(weight.shape) for weight in layer.weights]:
            raise unfit(f"is not {ARCHITECTURE}, since its layer {name} has other shapes")
        layer.set_weights(layers[name])
    others = {name: arrays for name, arrays in layers.items() if name not in own}
    model.get_layer(HEAD).set_weights(_head(others.pop(dense[0]), others, model.get_layer("top_bn")))
    return model


def _head(dense: Arrays, others: Mapping[str, Arrays], top: tf_keras.layers.Layer) -> Arrays:
    """Return kernel and bias of the head's Dense layer, with the BatchNorm before it folded in."""
    kernel, bias = dense[0], dense[1] if len(dense) > 1 else np.zeros(dense[0].shape[1], np.float32)
    shapes = [tuple(weight.shape) for weight in top.weights]
    for name, arrays in others.items():
        if len(others) > 1 or [array.shape for array in arrays] != shapes:
            raise unfit(f"has a layer {name} that {ARCHITECTURE} does not have")
        gamma, beta, mean, variance = arrays
        gain = gamma / np.sqrt(variance + _EPSILON)
        kernel, bias = kernel * gain[:, None], bias + (beta - mean * gain) @ kernel
    return kernel, bias
