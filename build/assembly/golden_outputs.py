"""Golden outputs: of which kind they are, and how far right kernels may be from them."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from build.errors import BuildError
from service.bundle.manifest import GoldenTolerance, OutputTensor

# How far right kernels are apart, by EfficientNetV2B0's logits. Float sums of different instruction
# sets differ in their last digits: XNNPACK's and TFLite's built-in ones by 0.00002, of float16 weights
# too. Integer kernels round at each layer in their own way: XNNPACK's are equal on x86-64 and on a
# Cortex-A72, TFLite's built-in ones end 12 steps away, with nearly all outputs touched. Wrong ones are
# apart by far more: 159 steps where XNNPACK meets an emulated SME unit.
FLOAT_TOLERANCE = GoldenTolerance(largest=0.01, share=1.0)
INTEGER_TOLERANCE = GoldenTolerance(largest=20, share=1.0)
# Dynamic range, in standard deviations of the golden outputs. It rounds each layer's input by the range
# of its values, where a last digit tips a rounding: XNNPACK's and the built-in kernels end 0.33 apart
# (0.40 of a logit), on 50 photos 0.70 at most (0.64). A wrong layer moves the golden outputs by 1.2 to
# 4: without its bias, or with one scale for all channels, in 16 of 18 layers tried; less in the last.
DYNAMIC_DEVIATIONS = 0.8
# What a softmax of 8 bits rounds to zero has no logarithm.
_LEAST_PROBABILITY = 1e-7
_FLOAT_SLACK = 0.01
_EIGHT_BIT_STEP = 1 / 256


def tolerance_of(
    outputs: NDArray[Any], kind: Literal["logits", "probabilities"], *, dynamic_range: bool
) -> GoldenTolerance:
    """How far a device's raw outputs may be from the golden ones, [n, classes].

    `dynamic_range`: whether the model rounds float activations as they come.
    """
    if np.issubdtype(outputs.dtype, np.integer):
        return INTEGER_TOLERANCE
    if not dynamic_range:
        return FLOAT_TOLERANCE
    apart = _probabilities_apart(outputs) if kind == "probabilities" else DYNAMIC_DEVIATIONS * outputs.std()
    return GoldenTolerance(largest=float(f"{apart:.2g}"), share=1.0)


def refuse_other_kind(name: str, outputs: NDArray[Any], tensor: OutputTensor) -> None:
    """Check that a variant's raw golden outputs, [n, classes], may be of the kind that `tensor` declares.

    Raises:
        BuildError: they can't; names the option's other value.
    """
    values = outputs.astype(np.float64)
    if tensor.scale is not None and tensor.zero_point is not None:
        values = tensor.scale * (values - tensor.zero_point)
    low, high = float(values.min()), float(values.max())
    are_shares = low >= -_FLOAT_SLACK and high <= 1 + _FLOAT_SLACK
    if tensor.kind == "probabilities" and not are_shares:
        raise BuildError(
            f"{name} gives values from {low:.3g} to {high:.3g}, which are no probabilities: import it with"
            " --output logits"
        )
    totals = values.sum(axis=1)
    # Rounded to 8 bits, as a float output may be as well, each class is off by half a step.
    slack = _FLOAT_SLACK + values.shape[1] * _EIGHT_BIT_STEP / 2
    if tensor.kind == "logits" and are_shares and totals.min() > 0 and np.abs(totals - 1).max() <= slack:
        raise BuildError(
            f"{name} ends in probabilities: its values are from {low:.3g} to {high:.3g} and their sums from"
            f" {totals.min():.3g} to {totals.max():.3g}; import it with --output probabilities"
        )


def _probabilities_apart(outputs: NDArray[Any]) -> float:
    """How far right kernels' probabilities may be apart, by dynamic range.

    As far as one class's logit moves them by the tolerance of logits, of which a softmax leaves the standard
    deviation in its logarithms. EfficientNetV2B0's kernels are 0.065 apart, where that gives 0.19.
    """
    golden = outputs.astype(np.float64).clip(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    logarithms = np.log(golden)
    deviation = (logarithms - logarithms.mean(axis=1, keepdims=True)).std()
    odds = golden / (1 - golden)
    moved = [odds * np.exp(way * DYNAMIC_DEVIATIONS * deviation) for way in (-1, 1)]
    apart = max(float(np.abs(other / (1 + other) - golden).max()) for other in moved)
    return max(apart, FLOAT_TOLERANCE.largest)
