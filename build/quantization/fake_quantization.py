"""The network with fake quantization, by tf-model-optimization: it computes in float what int8 would.

Kernels are rounded per output channel, symmetrically; every activation is rounded and clipped in its own
range. The ranges start at their calibrated values and are trained with the weights: the zero point is
fixed, the step is learned as in Esser et al., "Learned Step Size Quantization", ICLR 2020. The steps of the
kernels' grids are fixed: if they are learned, they become finer, and the file packs worse.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.quantization import keras as tfmot

from build.network.model import LayerWeights, Site, network, set_weights
from build.quantization.grids import Grid
from build.quantization.int8 import Int8Network
from build.quantization.ranges import INPUT_RANGE, STEPS, Range

_LEAST_REACH = 1e-9
WRAPPED = "quant_"
"""The prefix that tf-model-optimization gives the name of a layer that it wraps."""
KEPT = "kept"
"""The variable that says which weights of a kernel are not pruned: bool, in the kernel's layout."""
_STEP = "log_step"
_KERNELS = {
    tf_keras.layers.Conv2D: "kernel",
    tf_keras.layers.DepthwiseConv2D: "depthwise_kernel",
    tf_keras.layers.Dense: "kernel",
}


def fake_quantized_network(int8: Int8Network, size: int, range_rate: float = 1.0) -> tf_keras.Model:
    """Return the network with fake quantization, each of its layers wrapped by tf-model-optimization.

    The input is left unchanged: pixels are quantized exactly. `range_rate` scales how far the logarithms of
    learned steps move.
    """
    sites: dict[str, tuple[Range, bool]] = {}

    def note(name: str, site: Site, tensor: Any) -> Any:
        sites[tensor.node.layer.name] = (int8.ranges[name], site is not Site.SIGMOID)
        return tensor

    def annotate(layer: Any) -> Any:
        if isinstance(layer, tf_keras.layers.InputLayer):
            return layer
        range_, is_learned = sites[layer.name]
        grid = int8.grids.get(layer.name)
        config = _Config(
            range_.low,
            range_.high,
            range_rate if is_learned else None,
            (grid.bits, grid.step.tolist(), grid.kept is not None) if grid else None,
        )
        return tfmot.quantize_annotate_layer(layer, config)

    model = network(size, int8.weights["predictions"].bias.size, note)
    set_weights(model, int8.weights)
    known = {
        kind.__name__: kind for kind in (_Config, _ActivationQuantizer, _KernelQuantizer, _GridQuantizer)
    }
    with tf_keras.utils.custom_object_scope(known):
        annotated = tf_keras.models.clone_model(model, clone_function=annotate)
        quantized = tfmot.quantize_apply(annotated, scheme=_Scheme())
    for name, grid in int8.grids.items():
        if grid.kept is not None:
            variables_of(quantized.get_layer(WRAPPED + name))[KEPT].assign(grid.kept)
    return quantized


def variables_of(wrapper: Any) -> dict[str, Any]:
    """Return the variables of a wrapped layer and of its quantization, by their names in it.

    They include the kernel as it is trained, in float and unpruned, and `KEPT` if it is pruned.
    """
    return {variable.name.split("/")[-1].split(":")[0]: variable for variable in wrapper.weights}


def kernel_name(layer: Any) -> str | None:
    """Return the name of a layer's kernel, or None if it has none; `layer` is not wrapped."""
    return _KERNELS.get(type(layer))


def trained_values(model: tf_keras.Model, size: int, classes: int) -> Int8Network:
    """Return the values of a fake-quantized network for the converter: its kernels are not rounded yet."""
    found = Int8Network({}, {"input": INPUT_RANGE}, {})

    def read(name: str, _site: Site, tensor: Any) -> Any:
        layer = tensor.node.layer
        if isinstance(layer, tf_keras.layers.InputLayer):
            return tensor
        wrapper = model.get_layer(WRAPPED + layer.name)
        values = {key: variable.numpy() for key, variable in variables_of(wrapper).items()}
        config = wrapper.quantize_config
        if kernel := kernel_name(layer):
            found.weights[layer.name] = LayerWeights(values[kernel], values["bias"])
            quantizer = config.kernel_quantizer(layer)
            if isinstance(quantizer, _GridQuantizer):
                found.grids[layer.name] = replace(quantizer.grid, kept=values.get(KEPT))
        found.ranges[name] = config.get_output_quantizers(wrapper)[0].range(values.get(_STEP))
        return tensor

    network(size, classes, read)
    return found


class _ActivationQuantizer(tfmot.quantizers.Quantizer):
    """Rounds and clips an activation in 255 steps; the step is learned or fixed."""

    def __init__(self, low: float, high: float, rate: float | None) -> None:
        self.low, self.high, self.rate = low, high, rate
        self.step = (high - low) / STEPS
        self.zero_point = round(-low / self.step)

    def build(self, _shape: Any, _name: str, layer: Any) -> dict[str, Any]:
        if self.rate is None:
            return {}
        return {_STEP: layer.add_weight(name=_STEP, shape=(), initializer="zeros", trainable=True)}

    def __call__(self, inputs: Any, training: Any, weights: dict[str, Any], **_: Any) -> Any:
        if self.rate is None:
            return tf.quantization.fake_quant_with_min_max_args(inputs, self.low, self.high)
        return _fake_quantize(inputs, self.step * tf.exp(self.rate * weights[_STEP]), self.zero_point)

    def range(self, log_step: Any) -> Range:
        """Return the range, given the learned `log_step`, which is None if the step is fixed."""
        if self.rate is None:
            return Range(self.low, self.high)
        step = float(self.step * np.exp(self.rate * log_step))
        return Range(-step * self.zero_point, step * (STEPS - self.zero_point))

    def get_config(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "rate": self.rate}


class _KernelQuantizer(tfmot.quantizers.Quantizer):
    """Rounds a kernel to int8, each output channel by its own largest value, as the converter does."""

    def __init__(self, is_depthwise: bool) -> None:
        self.is_depthwise = is_depthwise

    def build(self, _shape: Any, _name: str, _layer: Any) -> dict[str, Any]:
        return {}

    def __call__(self, inputs: Any, training: Any, weights: dict[str, Any], **_: Any) -> Any:
        # The operation expects channels in the last axis; a depthwise kernel has them in the one before.
        last = tf.transpose(inputs, (0, 1, 3, 2)) if self.is_depthwise else inputs
        reach = tf.reduce_max(tf.abs(tf.stop_gradient(last)), axis=tuple(range(last.shape.rank - 1)))
        reach = tf.maximum(reach, _LEAST_REACH)
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            last, -reach, reach, narrow_range=True
        )
        return tf.transpose(rounded, (0, 1, 3, 2)) if self.is_depthwise else rounded

    def get_config(self) -> dict[str, Any]:
        return {"is_depthwise": self.is_depthwise}


class _GridQuantizer(tfmot.quantizers.Quantizer):
    """Rounds a kernel to a grid; pruned weights are 0 and have no gradient."""

    def __init__(self, bits: int, step: list[float], is_pruned: bool, is_depthwise: bool) -> None:
        self.bits, self.step, self.is_pruned, self.is_depthwise = bits, step, is_pruned, is_depthwise

    def build(self, shape: Any, _name: str, layer: Any) -> dict[str, Any]:
        if not self.is_pruned:
            return {}
        kept = layer.add_weight(name=KEPT, shape=shape, dtype=tf.bool, initializer="ones", trainable=False)
        return {KEPT: kept}

    def __call__(self, inputs: Any, training: Any, weights: dict[str, Any], **_: Any) -> Any:
        if self.is_pruned:
            inputs = tf.where(weights[KEPT], inputs, 0.0)
        step = tf.constant(self.step)
        # A depthwise kernel has its channels in the last axis but one, and the last has size 1.
        step = step[:, tf.newaxis] if self.is_depthwise else step
        most = float(self.grid.largest_level)
        levels = tf.clip_by_value(inputs / step, -most, most)
        # The gradient passes straight through the rounding, and is 0 for a clipped weight.
        return (levels + tf.stop_gradient(tf.round(levels) - levels)) * step

    @property
    def grid(self) -> Grid:
        """The grid that kernels are rounded to."""
        return Grid(self.bits, np.array(self.step, np.float32))

    def get_config(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "step": self.step,
            "is_pruned": self.is_pruned,
            "is_depthwise": self.is_depthwise,
        }


class _Config(tfmot.QuantizeConfig):
    """One layer: its kernel per output channel, and its output in a range.

    `rate` is None if the range is fixed; `grid` has the grid's bits, its steps, and whether it is pruned.
    """

    def __init__(
        self, low: float, high: float, rate: float | None, grid: tuple[int, list[float], bool] | None
    ) -> None:
        self.low, self.high, self.rate, self.grid = low, high, rate, grid

    def kernel_quantizer(self, layer: Any) -> Any:
        """Return the quantizer of the layer's kernel."""
        is_depthwise = isinstance(layer, tf_keras.layers.DepthwiseConv2D)
        return _GridQuantizer(*self.grid, is_depthwise) if self.grid else _KernelQuantizer(is_depthwise)

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        name = kernel_name(layer)
        return [(getattr(layer, name), self.kernel_quantizer(layer))] if name else []

    def get_activations_and_quantizers(self, _layer: Any) -> list[tuple[Any, Any]]:
        return []

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        if name := kernel_name(layer):
            setattr(layer, name, quantize_weights[0])

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        pass

    def get_output_quantizers(self, _layer: Any) -> list[Any]:
        return [_ActivationQuantizer(self.low, self.high, self.rate)]

    def get_config(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "rate": self.rate, "grid": self.grid}


class _Scheme(tfmot.default_8bit.Default8BitQuantizeScheme):
    """Leaves the graph unchanged: BatchNorm is folded, and the stock scheme would round the input in ±6."""

    def get_layout_transformer(self) -> Any:
        return _UnchangedLayout()


class _UnchangedLayout(tfmot.QuantizeLayoutTransform):
    def apply(self, model: Any, layer_quantize_map: Any) -> tuple[Any, Any]:
        return model, layer_quantize_map


def _fake_quantize(inputs: Any, step: Any, zero_point: int) -> Any:
    """Quantize `inputs` in 255 steps, with the gradient of learned step sizes.

    In the step's gradient, a value inside the range counts with its rounding error, a value outside with the
    level that it is clipped to.
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
