"""The network with fake quantization, by tf-model-optimization: it computes in float what int8 would.

Kernels are rounded per output channel, symmetrically; every activation is rounded and clipped in a
range of its own. The ranges start where calibration put them and are trained with the weights: the
zero point stays, the step is learned as in Esser et al., "Learned Step Size Quantization", ICLR 2020.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.quantization import keras as tfmot

from build.network.model import LayerWeights, Site, Weights, network, set_weights
from build.quantization.ranges import INPUT_RANGE, STEPS, Range

RANGE_RATE = 100.0
"""How much further than a weight a range's logarithm moves in a step. Adam moves each variable by about
the learning rate: much for a weight, next to nothing for a range."""
_LEAST_REACH = 1e-9
WRAPPED = "quant_"
"""What tf-model-optimization puts before the name of a layer that it wraps."""
_STEP = "log_step"
_KERNELS = {
    tf_keras.layers.Conv2D: "kernel",
    tf_keras.layers.DepthwiseConv2D: "depthwise_kernel",
    tf_keras.layers.Dense: "kernel",
}


def fake_quantized_network(weights: Weights, size: int, ranges: Mapping[str, Range]) -> tf_keras.Model:
    """The network in fake quantization, each of its layers wrapped as tf-model-optimization does.

    `ranges` has one for every activation, by name. The input is as it is: pixels are quantized exactly.
    """
    sites: dict[str, tuple[Range, bool]] = {}

    def note(name: str, site: Site, tensor: Any) -> Any:
        sites[tensor.node.layer.name] = (ranges[name], site is not Site.SIGMOID)
        return tensor

    def annotate(layer: Any) -> Any:
        if isinstance(layer, tf_keras.layers.InputLayer):
            return layer
        seen, is_learned = sites[layer.name]
        return tfmot.quantize_annotate_layer(layer, _Config(seen.low, seen.high, is_learned))

    model = network(size, weights["predictions"].bias.size, note)
    set_weights(model, weights)
    known = {kind.__name__: kind for kind in (_Config, _ActivationQuantizer, _KernelQuantizer)}
    with tf_keras.utils.custom_object_scope(known):
        annotated = tf_keras.models.clone_model(model, clone_function=annotate)
        return tfmot.quantize_apply(annotated, scheme=_Scheme())


def trained_values(model: tf_keras.Model, size: int, classes: int) -> tuple[Weights, dict[str, Range]]:
    """The weights and the ranges of a fake-quantized network, as the converter takes them."""
    weights: Weights = {}
    ranges: dict[str, Range] = {"input": INPUT_RANGE}

    def read(name: str, _site: Site, tensor: Any) -> Any:
        layer = tensor.node.layer
        if not isinstance(layer, tf_keras.layers.InputLayer):
            wrapper = model.get_layer(WRAPPED + layer.name)
            values = {weight.name.split("/")[-1].split(":")[0]: weight.numpy() for weight in wrapper.weights}
            if kernel := _kernel_name(layer):
                weights[layer.name] = LayerWeights(values[kernel], values["bias"])
            ranges[name] = wrapper.quantize_config.get_output_quantizers(wrapper)[0].range(values.get(_STEP))
        return tensor

    network(size, classes, read)
    return weights, ranges


class _ActivationQuantizer(tfmot.quantizers.Quantizer):
    """Rounds and clips an activation in 255 steps; the step is learned, or fixed."""

    def __init__(self, low: float, high: float, is_learned: bool) -> None:
        self.low, self.high, self.is_learned = low, high, is_learned
        self.step = (high - low) / STEPS
        self.zero_point = round(-low / self.step)

    def build(self, _shape: Any, _name: str, layer: Any) -> dict[str, Any]:
        if not self.is_learned:
            return {}
        return {_STEP: layer.add_weight(name=_STEP, shape=(), initializer="zeros", trainable=True)}

    def __call__(self, inputs: Any, training: Any, weights: dict[str, Any], **_: Any) -> Any:
        if not self.is_learned:
            return tf.quantization.fake_quant_with_min_max_args(inputs, self.low, self.high)
        return _fake_quantize(inputs, self.step * tf.exp(RANGE_RATE * weights[_STEP]), self.zero_point)

    def range(self, log_step: Any) -> Range:
        """What it holds with a learned step."""
        if not self.is_learned:
            return Range(self.low, self.high)
        step = float(self.step * np.exp(RANGE_RATE * log_step))
        return Range(-step * self.zero_point, step * (STEPS - self.zero_point))

    def get_config(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "is_learned": self.is_learned}


class _KernelQuantizer(tfmot.quantizers.Quantizer):
    """Rounds a kernel to int8, each output channel by its own largest value, as the converter does."""

    def __init__(self, is_depthwise: bool) -> None:
        self.is_depthwise = is_depthwise

    def build(self, _shape: Any, _name: str, _layer: Any) -> dict[str, Any]:
        return {}

    def __call__(self, inputs: Any, training: Any, weights: dict[str, Any], **_: Any) -> Any:
        # The operation takes channels in the last place; a depthwise kernel has them in the one before.
        last = tf.transpose(inputs, (0, 1, 3, 2)) if self.is_depthwise else inputs
        reach = tf.reduce_max(tf.abs(tf.stop_gradient(last)), axis=tuple(range(last.shape.rank - 1)))
        reach = tf.maximum(reach, _LEAST_REACH)
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            last, -reach, reach, narrow_range=True
        )
        return tf.transpose(rounded, (0, 1, 3, 2)) if self.is_depthwise else rounded

    def get_config(self) -> dict[str, Any]:
        return {"is_depthwise": self.is_depthwise}


class _Config(tfmot.QuantizeConfig):
    """One layer: its kernel per output channel, and its output in a range."""

    def __init__(self, low: float, high: float, is_learned: bool) -> None:
        self.low, self.high, self.is_learned = low, high, is_learned

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        name = _kernel_name(layer)
        is_depthwise = isinstance(layer, tf_keras.layers.DepthwiseConv2D)
        return [(getattr(layer, name), _KernelQuantizer(is_depthwise))] if name else []

    def get_activations_and_quantizers(self, _layer: Any) -> list[tuple[Any, Any]]:
        return []

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        if name := _kernel_name(layer):
            setattr(layer, name, quantize_weights[0])

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        pass

    def get_output_quantizers(self, _layer: Any) -> list[Any]:
        return [_ActivationQuantizer(self.low, self.high, self.is_learned)]

    def get_config(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "is_learned": self.is_learned}


class _Scheme(tfmot.default_8bit.Default8BitQuantizeScheme):
    """Leaves the graph as it is: BatchNorm is folded, and the stock scheme would round the input in ±6."""

    def get_layout_transformer(self) -> Any:
        return _UnchangedLayout()


class _UnchangedLayout(tfmot.QuantizeLayoutTransform):
    def apply(self, model: Any, layer_quantize_map: Any) -> tuple[Any, Any]:
        return model, layer_quantize_map


def _kernel_name(layer: Any) -> str | None:
    return _KERNELS.get(type(layer))


def _fake_quantize(inputs: Any, step: Any, zero_point: int) -> Any:
    """`inputs` in 255 steps, with the gradient of learned step sizes.

    Of a value inside the range the step sees its rounding error, of one outside where it is clipped.
    """

    @tf.custom_gradient
    def rounded(x: Any, width: Any) -> Any:
        low, high = -width * zero_point, width * (STEPS - zero_point)
        y = tf.quantization.fake_quant_with_min_max_vars(x, low, high)

        def gradient(upstream: Any) -> Any:
            inside, below, above = tf.raw_ops.FakeQuantWithMinMaxVarsGradient(
                gradients=upstream, inputs=x, min=low, max=high
            )
            clipped = above * (STEPS - zero_point) - below * zero_point
            return inside, clipped + tf.reduce_sum(inside * (y - x)) / width

        return y, gradient

    return rounded(inputs, step)
