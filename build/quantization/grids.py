"""Weight grids that are coarser than the converter's, stored as int8.

The file stores a weight's level as int8, and the grid's step as its scale. Kernels compute with it as with
any int8 weight, at the same speed. All channels share one alphabet of few symbols, so a compressor comes
close to its entropy. Uncompressed, the file is not smaller.

A grid is given by its bits or by its step. A grid of b bits has the levels -L … L with L = 2^(b-1) - 1, and a
separate step for each output channel. A grid with a given step uses it in all channels, with all levels of
int8: the outer ones hold few weights, so they cost few bytes, and no weight is clipped. This comes close to
the smallest error for an entropy (Choi, El-Khamy, Lee, "Towards the Limit of Network Quantization", ICLR
2017).

A grid of b bits can keep its few large weights: Park, Yoo, Vajda, "Value-aware Quantization for Training and
Inference of Neural Networks", ECCV 2018. A share of each channel's weights then lies beyond L, on the other
levels of int8: the step is fitted to the small weights, and none is clipped. In the paper, large values have
a finer grid of their own. Here they share that of the small ones: a finer one for 2 % of the weights hardly
reduces the error, and takes more bytes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from build.errors import BuildError
from build.network.model import LayerWeights, Weights
from build.quantization.layer_names import layer_of

FULL_BITS = 8
"""The bits of a layer without a grid: the converter's int8, each channel scaled by its largest value."""
# What the largest level may be worth, as shares of a channel's largest value: small if one weight stands out.
_SHARES = np.linspace(0.04, 1.0, 49)
# In a channel of zeros every step has the same error, but a step can't be 0.
_LEAST_SHARE = 1e-6
# The converter's limit: it leaves room in int32 for what a kernel adds to a bias.
_LARGEST_BIAS = 2**30 - 1


@dataclass(frozen=True)
class Grid:
    """The grid of one layer's weights.

    `step`: float32[channels], the difference between neighbouring levels in each output channel; `kept`: in
    the kernel's layout, false for a pruned weight, whose only level is 0; None if the layer is not pruned.
    """

    bits: int
    step: NDArray[np.float32]
    kept: NDArray[np.bool_] | None = None

    @property
    def largest_level(self) -> int:
        """Where a weight is clipped, in steps."""
        return largest_level(self.bits)


NOTHING: Mapping[str, Any] = {}
_Value = TypeVar("_Value")


def largest_level(bits: int) -> int:
    """Return the largest level of a grid; the smallest one is its negative."""
    return int(2 ** (bits - 1) - 1)


def bits_of(layer: str, patterns: Mapping[str, int]) -> int:
    """Return the bits of a layer's weights by the first pattern that matches its name, or 8 if none does."""
    return first_fit(layer, patterns) or FULL_BITS


def check_patterns(weights: Weights, patterns: Iterable[str]) -> None:
    """Check that each pattern matches a layer.

    Raises:
        BuildError: a pattern matches none; the message names it.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in weights):
            raise BuildError(
                f"the recipe's pattern {pattern} matches no layer of the network; the first layer is"
                f" {next(iter(weights))}"
            )


def grids_of(
    weights: Weights,
    bits: Mapping[str, int] = NOTHING,
    steps: Mapping[str, float] = NOTHING,
    large: float | None = None,
) -> dict[str, Grid]:
    """Return the grids of layers by name, for bits or steps by pattern; the first matching pattern counts.

    With fewer than 8 bits, the step of each channel is the share of its largest value that minimizes the mean
    squared error of rounding and clipping. With `large`, it is instead the step with which this share of the
    channel's weights lies beyond the levels of those bits, on further ones. The latter, or a given step, is
    enlarged in a channel whose largest value would be beyond the levels of int8.

    Raises:
        BuildError: a pattern matches no layer.
    """
    check_patterns(weights, [*bits, *steps])
    of_layers = {name: bits_of(name, bits) for name in weights}
    coarse = {
        name: _least_error_grid(weights[name], b) if large is None else _large_kept(weights[name], b, large)
        for name, b in of_layers.items()
        if b < FULL_BITS
    }
    given = {name: first_fit(name, steps) for name in weights}
    return coarse | {
        name: _grid_of_step(weights[name], step) for name, step in given.items() if step is not None
    }


def converter_grids(weights: Weights) -> dict[str, Grid]:
    """Return the converter's own grids: symmetric, with a step for each channel from its largest value."""
    return {name: _grid_of_step(layer, 0.0) for name, layer in weights.items()}


def has_grid(layer: str, bits: Mapping[str, int], steps: Mapping[str, float]) -> bool:
    """Return whether `grids_of` gives a layer with that name a grid."""
    return bits_of(layer, bits) < FULL_BITS or first_fit(layer, steps) is not None


def first_fit(layer: str, patterns: Mapping[str, _Value]) -> _Value | None:
    """Return the value of the first shell pattern that matches a layer's name, or None if none does."""
    return next((value for pattern, value in patterns.items() if fnmatchcase(layer, pattern)), None)


def levels_of(layer: LayerWeights, grid: Grid) -> NDArray[np.int8]:
    """Return a kernel's levels, int8 in its own layout: the nearest to each weight, 0 for a pruned one."""
    most = grid.largest_level
    levels = np.clip(np.round(in_steps(layer, grid)), -most, most).astype(np.int8)
    return levels if grid.kept is None else levels * grid.kept


def in_steps(layer: LayerWeights, grid: Grid) -> NDArray[np.float32]:
    """Return a kernel's weights in its own layout, each in steps of its channel's grid."""
    steps: NDArray[Any] = _by_channel(layer, layer.kernel) / grid.step
    return steps.reshape(layer.kernel.shape)


def on_grids(weights: Weights, grids: Mapping[str, Grid]) -> Weights:
    """Return the weights with the kernels of `grids` rounded to their nearest levels."""
    return weights | {name: _rounded(weights[name], grid) for name, grid in grids.items()}


def store_levels(content: bytes, weights: Weights, grids: Mapping[str, Grid]) -> bytes:
    """Return the int8 file of `on_grids(weights, grids)`, with the levels of those kernels as int8 values.

    The converter takes the scale of each channel from its largest value, so channels whose outer levels are
    empty have other scales than the rest. Kernels, scales and biases are replaced in place. A channel whose
    weights are tiny compared with its bias gets a larger step, so that the bias fits.

    Raises:
        BuildError: the file has no kernel of a layer of `grids` in the form that the converter gives it.
    """
    data = bytearray(content)
    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    found = set()
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        inputs = operator.InputsAsNumpy()
        layer = layer_of(graph.Tensors(operator.Outputs(0)).Name())
        if (
            layer in grids
            and len(inputs) > 1
            and model.Buffers(graph.Tensors(inputs[1]).Buffer()).DataLength()
        ):
            _store(model, graph, inputs, weights[layer], grids[layer])
            found.add(layer)
    if missing := sorted(grids.keys() - found):
        raise BuildError(f"the converted file has no kernel of the layer {missing[0]}")
    return bytes(data)


def _store(
    model: schema.Model, graph: schema.SubGraph, inputs: NDArray[np.int32], layer: LayerWeights, grid: Grid
) -> None:
    given, kernel, *bias = (graph.Tensors(i) for i in inputs if i >= 0)
    given_scale = given.Quantization().ScaleAsNumpy()[0]
    least = np.abs(layer.bias) / (given_scale * _LARGEST_BIAS)
    grid = replace(grid, step=np.maximum(grid.step, least))
    # Keras has the output channels of a convolution last, TFLite first.
    levels = np.moveaxis(levels_of(layer, grid), -1, 0)
    model.Buffers(kernel.Buffer()).DataAsNumpy()[:] = np.ascontiguousarray(levels).reshape(-1).view(np.uint8)
    kernel.Quantization().ScaleAsNumpy()[:] = grid.step
    if bias:
        scale = given_scale * grid.step
        values = np.round(layer.bias / scale.astype(np.float64)).astype("<i4")
        model.Buffers(bias[0].Buffer()).DataAsNumpy()[:] = values.view(np.uint8)
        bias[0].Quantization().ScaleAsNumpy()[:] = scale


def _least_error_grid(layer: LayerWeights, bits: int) -> Grid:
    kernel = _by_channel(layer, layer.kernel)
    most = largest_level(bits)
    reach = _reach(kernel)
    best, least = reach / most, np.full(reach.shape, np.inf)
    for share in _SHARES:
        step = share * reach / most
        error = np.square(np.clip(np.round(kernel / step), -most, most) * step - kernel).sum(0)
        best = np.where(error < least, step, best)
        least = np.minimum(error, least)
    return Grid(bits, best.astype(np.float32))


def _large_kept(layer: LayerWeights, bits: int, large: float) -> Grid:
    small = np.quantile(np.abs(_by_channel(layer, layer.kernel)), 1 - large, axis=0)
    # A weight is small if it is nearer to the largest level of the bits than to the next one.
    return _grid_of_step(layer, small / (largest_level(bits) + 0.5))


def _grid_of_step(layer: LayerWeights, step: float | NDArray[np.float64]) -> Grid:
    least = _reach(_by_channel(layer, layer.kernel)) / largest_level(FULL_BITS)
    return Grid(FULL_BITS, np.maximum(least, step).astype(np.float32))


def _reach(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest magnitude in each channel of [weights, channels], or a tiny one if all are zero."""
    reach = np.abs(kernel).max(0)
    floored: NDArray[np.float32] = np.maximum(reach, _LEAST_SHARE * max(float(reach.max()), _LEAST_SHARE))
    return floored


def _rounded(layer: LayerWeights, grid: Grid) -> LayerWeights:
    kernel = _by_channel(layer, levels_of(layer, grid)) * grid.step
    return LayerWeights(kernel.reshape(layer.kernel.shape), layer.bias)


def _by_channel(layer: LayerWeights, values: NDArray[Any]) -> NDArray[Any]:
    """Return the values of all weights as [weights of a channel, output channels].

    Output channels are the last axis of a kernel's own layout, except that a depthwise one ends in an axis of
    size 1 after them.
    """
    return values.reshape(-1, layer.bias.size)
