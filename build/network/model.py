"""EfficientNetV2 as a graph that can be trained and quantized.

BatchNorm is folded into the convolutions in float, so that small data can't harm its
statistics and quantization sees the weights that will run. The input normalisation is folded
into the stem: the network takes `(pixel - 114) / 57.375`, in which uint8 pixels are already
quantized exactly. SiLU is written as a sigmoid and a product, and every activation is a
separate operator, so that each tensor's range can be set. The network ends at the logits.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

PIXEL_ZERO = 114
PIXEL_STEP = 57.375

_WEIGHTED = (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D, tf_keras.layers.Dense)


class Site(StrEnum):
    """The kind of tensor that an activation is; quantization recipes treat all of one kind alike."""

    INPUT = "input"
    BEFORE_SILU = "before-silu"
    SIGMOID = "sigmoid"
    SILU = "silu"
    SQUEEZE_EXCITE = "squeeze-excite"
    LINEAR = "linear"


@dataclass(frozen=True)
class LayerWeights:
    """Kernel (in Keras' layout) and bias of one convolution or dense layer, float32."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class Normalisation:
    """What a stem was trained on: `(pixel - mean) / std` per channel, float32[3], for pixels in 0…255."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]


# That of Keras' own model.
IMAGENET = Normalisation(
    255 * np.array([0.485, 0.456, 0.406], np.float32), 255 * np.array([0.229, 0.224, 0.225], np.float32)
)

Weights = dict[str, LayerWeights]
Place = Callable[[str, Site, Any], Any]
"""Called with every activation's name, kind and tensor; the graph continues with what it returns."""


def leave(_name: str, _site: Site, tensor: Any) -> Any:
    """Return the tensor unchanged: the `Place` of a float network."""
    return tensor


def network(size: int, classes: int, place: Place = leave) -> tf_keras.Model:
    """Return the folded network with fresh weights; `set_weights` gives it trained ones.

    It maps float32[n, size, size, 3], `(pixel - 114) / 57.375`, to logits float32[n, classes].
    """
    skeleton = keras_model(size, classes)
    tensors: dict[str, Any] = {}
    inputs = result = None
    for layer in skeleton.layers:
        sources = [tensors[source.name] for source in _as_list(layer.input) if source.name in tensors]
        match layer:
            case tf_keras.layers.InputLayer():
                inputs = tf_keras.Input((size, size, 3), name="input")
                result = place("input", Site.INPUT, inputs)
            case _ if isinstance(layer, _WEIGHTED):
                result = _with_bias(layer)(sources[0])
                if not _is_followed_by(layer, tf_keras.layers.BatchNormalization):
                    result = _activated(layer.name, layer.activation, result, place)
            case tf_keras.layers.BatchNormalization():
                result = sources[0]
                if not _is_followed_by(layer, tf_keras.layers.Activation):
                    result = place(_convolution_of(layer).name, Site.LINEAR, result)
            case tf_keras.layers.Activation():
                result = _activated(layer.name, layer.activation, sources[0], place)
            case tf_keras.layers.GlobalAveragePooling2D():
                # Kept four-dimensional inside a block, so that no Reshape is needed.
                pool = tf_keras.layers.GlobalAveragePooling2D(keepdims=_in_se(layer.name), name=layer.name)
                result = place(layer.name, _linear_site(layer.name), pool(sources[0]))
            case tf_keras.layers.Multiply() | tf_keras.layers.Add():
                result = place(layer.name, _linear_site(layer.name), type(layer)(name=layer.name)(sources))
            case _:  # rescaling, normalisation, dropout, reshape: folded or without effect
                result = sources[0]
        tensors[layer.output.name] = result
    return tf_keras.Model(inputs, result, name="efficientnetv2")


def keras_model(size: int, classes: int, weights: str | None = None) -> tf_keras.Model:
    """Return Keras' own model, from pixels in 0…255 to logits, with random weights or those of `imagenet`."""
    return tf_keras.applications.EfficientNetV2B0(
        weights=weights, input_shape=(size, size, 3), classes=classes, classifier_activation=None
    )


def with_pixel_input(model: tf_keras.Model) -> tf_keras.Model:
    """Return the same network on raw pixels: float32[n, size, size, 3] in 0…255."""
    pixels = tf_keras.Input(model.input_shape[1:], name="pixels")
    normalised = tf_keras.layers.Rescaling(1 / PIXEL_STEP, -PIXEL_ZERO / PIXEL_STEP, name="normalise")
    return tf_keras.Model(pixels, model(normalised(pixels)), name=model.name)


def normalise(pixels: Any) -> Any:
    """Convert pixels in 0…255, [n, height, width, 3] of any type, to the float32 input of `network`."""
    return (tf.cast(pixels, tf.float32) - PIXEL_ZERO) / PIXEL_STEP


def set_weights(model: tf_keras.Model, weights: Weights) -> None:
    """Give a `network` its weights.

    Raises:
        ValueError: a layer is missing, left over or of another shape.
    """
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    if layers.keys() != weights.keys():
        raise ValueError(f"layers differ: {sorted(layers.keys() ^ weights.keys())}")
    for name, layer in layers.items():
        layer.set_weights([weights[name].kernel, weights[name].bias])


def get_weights(model: tf_keras.Model) -> Weights:
    """Return the weights of a `network`, in the form that `set_weights` takes."""
    return {layer.name: LayerWeights(*layer.get_weights()) for layer in model.layers if layer.weights}


def fold(source: tf_keras.Model, trained_on: Normalisation = IMAGENET) -> Weights:
    """Return the weights with which `network` computes what a `keras_model` computes.

    `trained_on` is the normalisation that the stem's weights are for, whatever the model's own is. The two
    networks differ only at the image's border: the stem pads with grey 114, Keras' model with the mean
    colour.
    """
    weights: Weights = {}
    for layer in source.layers:
        if not isinstance(layer, _WEIGHTED):
            continue
        kernel, *rest = layer.get_weights()
        bias = rest[0] if rest else np.zeros(kernel.shape[_channel_axis(layer)], np.float32)
        if layer.name == "stem_conv":
            zero = (PIXEL_ZERO - trained_on.mean) / trained_on.std
            bias = bias + np.einsum("hwio,i->o", kernel, zero)
            kernel = kernel * (PIXEL_STEP / trained_on.std)[:, None]
        for norm in _followers(layer):
            if isinstance(norm, tf_keras.layers.BatchNormalization):
                gamma, beta, mean, variance = norm.get_weights()
                gain = gamma / np.sqrt(variance + norm.epsilon)
                kernel = kernel * (gain[:, None] if _channel_axis(layer) == 2 else gain)
                bias = beta + (bias - mean) * gain
        weights[layer.name] = LayerWeights(kernel.astype(np.float32), bias.astype(np.float32))
    return weights


def block_of(name: str) -> str:
    """Return the block that an activation or a layer belongs to: stem, block1a … block6h, head."""
    first = name.partition("_")[0]
    if first.startswith("block"):
        return first
    return "stem" if first in ("input", "stem") else "head"


def within(blocks: Collection[str], names: Sequence[str]) -> frozenset[str]:
    """Return the activations inside the blocks, without the blocks' outputs.

    `names`: all activations in the network's order.
    """
    last = {block_of(name): name for name in names}
    return frozenset(name for name in names if block_of(name) in blocks and name != last[block_of(name)])


def _with_bias(layer: Any) -> Any:
    """Return a fresh layer like that of Keras' model, but with a bias and without activation."""
    match layer:
        case tf_keras.layers.Dense():
            return tf_keras.layers.Dense(layer.units, name=layer.name)
        case tf_keras.layers.DepthwiseConv2D():
            return tf_keras.layers.DepthwiseConv2D(
                layer.kernel_size, layer.strides, layer.padding, name=layer.name
            )
        case _:
            return tf_keras.layers.Conv2D(
                layer.filters, layer.kernel_size, layer.strides, layer.padding, name=layer.name
            )


def _activated(name: str, activation: Any, tensor: Any, place: Place) -> Any:
    """Apply an activation, with each of its steps as an operator that `place` sees."""
    if activation is tf_keras.activations.linear:
        return place(name, _linear_site(name), tensor)
    is_sigmoid = activation is tf_keras.activations.sigmoid
    before = place(f"{name}_in", _linear_site(name) if is_sigmoid else Site.BEFORE_SILU, tensor)
    sigmoid = tf_keras.layers.Activation("sigmoid", name=f"{name}_sigmoid")(before)
    sigmoid = place(f"{name}_sigmoid", Site.SIGMOID, sigmoid)
    if is_sigmoid:
        return sigmoid
    product = tf_keras.layers.Multiply(name=f"{name}_silu")([before, sigmoid])
    return place(f"{name}_silu", Site.SILU, product)


def _linear_site(name: str) -> Site:
    return Site.SQUEEZE_EXCITE if _in_se(name) else Site.LINEAR


def _in_se(name: str) -> bool:
    return "_se_" in name


def _channel_axis(layer: Any) -> int:
    return 2 if isinstance(layer, tf_keras.layers.DepthwiseConv2D) else -1


def _followers(layer: Any) -> list[Any]:
    return [node.outbound_layer for node in layer.outbound_nodes]


def _is_followed_by(layer: Any, kind: type) -> bool:
    return any(isinstance(follower, kind) for follower in _followers(layer))


def _convolution_of(norm: Any) -> Any:
    return norm.inbound_nodes[0].inbound_layers


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
