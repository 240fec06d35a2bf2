"""Golden outputs: which kind they are, and how far correct kernels may be from them."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from build.errors import BuildError
from service.bundle.manifest import GoldenTolerance, OutputTensor

# How far correct kernels are apart, measured on EfficientNetV2B0's logits. Float sums differ in their last
# digits between instruction sets: by 0.00002 between XNNPACK's and TFLite's built-in kernels, also with
# float16 weights. Integer kernels round in their own way at each layer. In 8 bits, XNNPACK's agree on x86-64
# and on a Cortex-A72; TFLite's built-in ones end up 12 steps away, with nearly all outputs affected. Wrong
# kernels are much further off: 159 steps when XNNPACK runs on an emulated SME unit. With int16 activations,
# TFLite's built-in and reference kernels end up 0.004 apart, so the tolerance for floats suits these too.
FLOAT_TOLERANCE = GoldenTolerance(largest=0.01, share=1.0)
INTEGER_TOLERANCE = GoldenTolerance(largest=20, share=1.0)
# For dynamic range, in standard deviations of the golden outputs. Each layer's input is quantized by the
# range of its values, so a difference in the last digit can tip a rounding: XNNPACK's and the built-in
# kernels end up 0.33 apart (0.40 logits), and at most 0.70 (0.64 logits) on 50 photos. A layer that lacks its
# bias, or has one scale for all channels, moves the golden outputs by 1.2 to 4 in 16 of 18 layers tried; less
# in the last.
DYNAMIC_DEVIATIONS = 0.8
# An 8-bit softmax rounds small probabilities to zero, which has no logarithm.
_LEAST_PROBABILITY = 1e-7
_FLOAT_SLACK = 0.01
_EIGHT_BIT_STEP = 1 / 256


def tolerance_of(
    outputs: NDArray[Any], kind: Literal["logits", "probabilities"], *, dynamic_range: bool
) -> GoldenTolerance:
    """Return how far a device's raw outputs may be from the golden ones, [n, classes].

    `dynamic_range`: whether the model quantizes float activations at run time.
    """
    if np.issubdtype(outputs.dtype, np.integer):
        return INTEGER_TOLERANCE
    if not dynamic_range:
        return FLOAT_TOLERANCE
    apart = _probabilities_apart(outputs) if kind == "probabilities" else DYNAMIC_DEVIATIONS * outputs.std()
    return GoldenTolerance(largest=float(f"{apart:.2g}"), share=1.0)


def refuse_other_kind(name: str, outputs: NDArray[Any], tensor: OutputTensor) -> None:
    """Check that a variant's raw golden outputs, [n, classes], can be of the kind that `tensor` declares.

    Raises:
        BuildError: they can't be; the message gives the right value of the option.
    """
    values = outputs.astype(np.float64)
    if tensor.scale is not None and tensor.zero_point is not None:
        values = tensor.scale * (values - tensor.zero_point)
    low, high = float(values.min()), float(values.max())
    are_shares = low >= -_FLOAT_SLACK and high <= 1 + _FLOAT_SLACK
    if tensor.kind == "probabilities" and not are_shares:
        raise BuildError(
            f"{name} gives values from {low:.3g} to {high:.3g}, which are not probabilities; import it with"
            " --output logits"
        )
    totals = values.sum(axis=1)
    # In 8 bits, to which a float output may be rounded as well, each class can be off by half a step.
    slack = _FLOAT_SLACK + values.shape[1] * _EIGHT_BIT_STEP / 2
    if tensor.kind == "logits" and are_shares and totals.min() > 0 and np.abs(totals - 1).max() <= slack:
        raise BuildError(
            f"{name} gives probabilities: values from {low:.3g} to {high:.3g}, with sums from"
            f" {totals.min():.3g} to {totals.max():.3g}; import it with --output probabilities"
        )


def _probabilities_apart(outputs: NDArray[Any]) -> float:
    """Return how far apart correct kernels' probabilities may be with dynamic range.

    That is how far a probability moves if its class's logit moves by the tolerance for logits. Softmax keeps
    the logits' standard deviation in its logarithms. EfficientNetV2B0's kernels are 0.065 apart, and this
    gives 0.19.
    """
    golden = outputs.astype(np.float64).clip(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    logarithms = np.log(golden)
    deviation = (logarithms - logarithms.mean(axis=1, keepdims=True)).std()
    odds = golden / (1 - golden)
    moved = [odds * np.exp(way * DYNAMIC_DEVIATIONS * deviation) for way in (-1, 1)]
    apart = max(float(np.abs(other / (1 + other) - golden).max()) for other in moved)
    return max(apart, FLOAT_TOLERANCE.largest)
