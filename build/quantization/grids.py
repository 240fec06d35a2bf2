"""Grids of weights: coarser ones than the converter's, in int8's storage.

The file keeps a weight's level itself, as int8, with the grid's step as its scale. Kernels compute with it
as with any int8 weight, at the same speed; all channels share one alphabet of few symbols, so that a
compressor comes near its entropy. A smaller file as it runs is not what this gives.

A grid is given by its bits or by its step. One of b bits has the levels -L … L with L = 2^(b-1) - 1, and a
step of its own for each output channel. One of a given step has it in all channels, and all of int8's
levels: few weights are at the outer ones, which so cost few bytes, and none is clipped. That is what comes
near the least error for an entropy (Choi, El-Khamy, Lee, "Towards the Limit of Network Quantization", ICLR
2017).

A grid of b bits may keep its few large weights: Park, Yoo, Vajda, "Value-aware Quantization for Training and
Inference of Neural Networks", ECCV 2018. A share of each channel's weights then lies beyond L, on the other
levels of int8: the step is fitted to the small ones, and none is clipped. In the paper large values have a
finer grid of their own. Here theirs is that of the small ones: a finer one for 2 % of the weights errs hardly
less, and takes more bytes.
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
"""What a layer without a grid has: the converter's int8, each channel by its largest value."""
# Of a channel's largest value, what the largest level may be worth: little where one weight stands out.
_SHARES = np.linspace(0.04, 1.0, 49)
# A channel of zeros has no least error, and a step can't be 0.
_LEAST_SHARE = 1e-6
# As the converter has it: what a kernel adds to a bias fits into int32 beside it.
_LARGEST_BIAS = 2**30 - 1


@dataclass(frozen=True)
class Grid:
    """`step`: float32[channels], the difference of two neighbouring levels of each output channel.

    `kept`: in the kernel's layout, false for a weight that is pruned, whose only level is 0; None where
    the layer is not pruned.
    """

    bits: int
    step: NDArray[np.float32]
    kept: NDArray[np.bool_] | None = None

    @property
    def largest_level(self) -> int:
        """What a weight is clipped at, in steps."""
        return largest_level(self.bits)


NOTHING: Mapping[str, Any] = {}
_Value = TypeVar("_Value")


def largest_level(bits: int) -> int:
    """The levels of a grid go from minus this to this."""
    return int(2 ** (bits - 1) - 1)


def bits_of(layer: str, patterns: Mapping[str, int]) -> int:
    """The bits of a layer's weights by the first pattern that its name fits; 8 by none."""
    return first_fit(layer, patterns) or FULL_BITS


def check_patterns(weights: Weights, patterns: Iterable[str]) -> None:
    """Check that each pattern fits a layer.

    Raises:
        BuildError: one does not; names it.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in weights):
            raise BuildError(
                f"the recipe's pattern {pattern} fits no layer of the network; the first is"
                f" {next(iter(weights))}"
            )


def grids_of(
    weights: Weights,
    bits: Mapping[str, int] = NOTHING,
    steps: Mapping[str, float] = NOTHING,
    large: float | None = None,
) -> dict[str, Grid]:
    """The grids of layers by name: by bits or by steps, for patterns of which the first that fits counts.

    The step of a grid of fewer than 8 bits is the one of each channel, of a share of its largest value, by
    which rounding and clipping err least in the mean square; or, with `large`, the one by which this share of
    the channel's weights lies beyond the levels of those bits, on further ones. That step, or a given one, is
    made larger in a channel whose largest value would be beyond the levels of int8.

    Raises:
        BuildError: as `check_patterns` says.
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


def has_grid(layer: str, bits: Mapping[str, int], steps: Mapping[str, float]) -> bool:
    """Whether `grids_of` gives a layer of that name a grid."""
    return bits_of(layer, bits) < FULL_BITS or first_fit(layer, steps) is not None


def first_fit(layer: str, patterns: Mapping[str, _Value]) -> _Value | None:
    """The value of the first pattern, as a shell's, that a layer's name fits."""
    return next((value for pattern, value in patterns.items() if fnmatchcase(layer, pattern)), None)


def levels_of(layer: LayerWeights, grid: Grid) -> NDArray[np.int8]:
    """A kernel's levels, int8 in the kernel's own layout: each weight's nearest, 0 of a pruned one."""
    most = grid.largest_level
    levels = np.clip(np.round(in_steps(layer, grid)), -most, most).astype(np.int8)
    return levels if grid.kept is None else levels * grid.kept


def in_steps(layer: LayerWeights, grid: Grid) -> NDArray[np.float32]:
    """A kernel's weights in its own layout, each in steps of its channel's grid."""
    steps: NDArray[Any] = _by_channel(layer, layer.kernel) / grid.step
    return steps.reshape(layer.kernel.shape)


def on_grids(weights: Weights, grids: Mapping[str, Grid]) -> Weights:
    """The weights, with the kernels of `grids` at their nearest levels."""
    return weights | {name: _rounded(weights[name], grid) for name, grid in grids.items()}


def store_levels(content: bytes, weights: Weights, grids: Mapping[str, Grid]) -> bytes:
    """The int8 file of `on_grids(weights, grids)`, with the levels of those kernels for its own int8 values.

    The converter takes the scale of each channel from its largest value, so that channels whose outer
    levels are empty have others than the rest. Kernels, scales and biases are replaced where they lie.
    A channel whose weights are next to nothing beside its bias gets a larger step, in which the bias fits.

    Raises:
        BuildError: the file has a layer's operator in another form than the converter gives it.
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
    # What is nearer to the largest level of the bits than to the next one is small.
    return _grid_of_step(layer, small / (largest_level(bits) + 0.5))


def _grid_of_step(layer: LayerWeights, step: float | NDArray[np.float64]) -> Grid:
    least = _reach(_by_channel(layer, layer.kernel)) / largest_level(FULL_BITS)
    return Grid(FULL_BITS, np.maximum(least, step).astype(np.float32))


def _reach(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest value of each channel of [weights, channels], or next to nothing where all are zeros."""
    reach = np.abs(kernel).max(0)
    floored: NDArray[np.float32] = np.maximum(reach, _LEAST_SHARE * max(float(reach.max()), _LEAST_SHARE))
    return floored


def _rounded(layer: LayerWeights, grid: Grid) -> LayerWeights:
    kernel = _by_channel(layer, levels_of(layer, grid)) * grid.step
    return LayerWeights(kernel.reshape(layer.kernel.shape), layer.bias)


def _by_channel(layer: LayerWeights, values: NDArray[Any]) -> NDArray[Any]:
    """A value of each weight, as [weights of a channel, output channels].

    In a kernel's own layout these are last, in a depthwise one before a last place of one.
    """
    return values.reshape(-1, layer.bias.size)
