"""Calibration: the range of every activation, from representative photos.

What EfficientNetV2 loses in int8 comes from the ranges of its SiLU outputs and its
squeeze-and-excite tensors: a few outliers stretch them. Their ranges minimize the mean
quantization error; the others are the mean of the batches' extremes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray
from tqdm import tqdm

from build.errors import BuildError
from build.network.model import PIXEL_STEP, PIXEL_ZERO, Site, Weights, network, normalise, set_weights

BATCH = 20
BINS = 2048
STEPS = 255
SHARES = np.linspace(0.2, 1.0, 33)
ERROR_POWER = 1.6
"""The power of the errors whose mean is minimized: a power below 2 clips a few large values more readily, and
rounds the many small ones more finely. Mean KL to the float network on photos that were not calibrated
on: power 1 gave 0.041, 1.6 0.013, 2 0.019, 3 0.040."""
SILU_TAIL = 1 / 32
"""If SiLU(x) is less than this share of a step of its output, x is clipped. Chosen by the mean KL
to the float network on photos that were not calibrated on: 1/4 gave 0.022, 1/16 0.021, 1/32 0.019."""
_LEAST_WIDTH = 1e-6


@dataclass(frozen=True)
class Range:
    """The values an int8 tensor can hold: `low` ≤ 0 ≤ `high`, in 255 steps."""

    low: float
    high: float


INPUT_RANGE = Range(-PIXEL_ZERO / PIXEL_STEP, (STEPS - PIXEL_ZERO) / PIXEL_STEP)
SIGMOID_RANGE = Range(0.0, 255 / 256)
"""The only range that the int8 LOGISTIC kernel has."""


@dataclass(frozen=True)
class Statistics:
    """What was observed of one tensor.

    `low`, `high`: the means of the batches' extremes, weighted by the batches' sizes; `edges`, `counts`: a
    histogram of all values.
    """

    low: float
    high: float
    edges: NDArray[np.float64]
    counts: NDArray[np.float64]


def calibrate(weights: Weights, pixels: NDArray[np.uint8]) -> dict[str, Range]:
    """Return the range of every activation of the network, by its name.

    `pixels` is uint8[n, size, size, 3], the representative photos.

    Raises:
        BuildError: an activation is infinite or NaN.
    """
    names, sites, statistics = observe(weights, pixels)
    ranges = {"input": INPUT_RANGE}
    for name, site in zip(names, sites, strict=True):
        observed = statistics[name]
        if site in (Site.SILU, Site.SQUEEZE_EXCITE):
            ranges[name] = least_error_range(observed)
        elif site is Site.SIGMOID:
            ranges[name] = SIGMOID_RANGE
        else:
            ranges[name] = Range(min(observed.low, 0.0), max(observed.high, 0.0))
    for name, site in zip(names, sites, strict=True):
        if site is Site.BEFORE_SILU:
            ranges[name] = _before_silu(ranges[name], ranges[name.removesuffix("_in") + "_silu"])
    return {name: _with_steps(range_) for name, range_ in ranges.items()}


def _with_steps(range_: Range) -> Range:
    """Return the range, or a tiny one for a tensor that is always zero: a step can't be 0."""
    return range_ if range_.high - range_.low >= _LEAST_WIDTH else Range(0.0, _LEAST_WIDTH)


def least_error_range(observed: Statistics) -> Range:
    """Return the range with the smallest error of rounding and clipping, by the histogram."""
    values = (observed.edges[:-1] + observed.edges[1:]) / 2
    low, high = min(float(observed.edges[0]), 0.0), max(float(observed.edges[-1]), 0.0)
    best = min(
        ((low * a, high * b) for a in SHARES for b in SHARES),
        key=lambda bounds: _error(values, observed.counts, *bounds),
    )
    return Range(*map(float, best))


def _error(values: Any, counts: Any, low: float, high: float) -> float:
    step = (high - low) / STEPS
    if step == 0:
        return float(counts @ np.abs(values) ** ERROR_POWER)
    zero = np.round(-low / step)
    quantized = np.clip(np.round(values / step) + zero, 0, STEPS)
    return float(counts @ np.abs((quantized - zero) * step - values) ** ERROR_POWER)


def _before_silu(before: Range, silu: Range) -> Range:
    """Return the range without values that make no difference after the SiLU.

    These are very negative ones, whose SiLU is tiny in steps of its output, and positive ones whose SiLU is
    clipped.
    """
    least = SILU_TAIL * (silu.high - silu.low) / STEPS
    cuts = np.arange(1.3, 30, 0.03)  # From its minimum towards minus infinity, SiLU rises towards 0.
    far = cuts[cuts / (1 + np.exp(cuts)) <= least]
    low = -float(far[0] if far.size else cuts[-1])
    inputs = np.linspace(0, silu.high + 1, 10_000)  # SiLU(x) > x - 0.28 where x is positive.
    high = float(np.interp(silu.high, inputs / (1 + np.exp(-inputs)), inputs))
    return Range(max(before.low, low), min(before.high, high))


def observe(
    weights: Weights, pixels: NDArray[np.uint8]
) -> tuple[list[str], list[Site], dict[str, Statistics]]:
    """Return every activation's name and kind in the network's order, and its statistics on the photos.

    `pixels` is uint8[n, size, size, 3]. The photo itself does not count as an activation.

    Raises:
        BuildError: an activation is infinite or NaN.
    """
    taps: list[tuple[str, Site, Any]] = []

    def tap(name: str, site: Site, tensor: Any) -> Any:
        if site is not Site.INPUT:
            taps.append((name, site, tensor))
        return tensor

    model = network(pixels.shape[1], weights["predictions"].bias.size, tap)
    set_weights(model, weights)
    tapped = tf_keras.Model(model.input, [tensor for _, _, tensor in taps])
    batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]

    @tf.function
    def extremes(batch: Any) -> Any:
        outputs = tapped(normalise(batch))
        return tf.stack([[tf.reduce_min(t), tf.reduce_max(t)] for t in outputs])

    observed = np.stack([extremes(batch) for batch in tqdm(batches, desc="calibrate 1/2", unit="batch")])
    for (name, _, _), bounds in zip(taps, observed.swapaxes(0, 1), strict=True):
        if not np.isfinite(bounds).all():
            raise BuildError(f"the network's {name} is not finite on a photo: its weights are damaged")
    lowest, highest = observed[:, :, 0].min(0), observed[:, :, 1].max(0)
    highest = np.maximum(highest, lowest + 1e-6)
    bounds = np.stack([lowest, highest], axis=1).astype(np.float32)

    @tf.function
    def histograms(batch: Any) -> Any:
        outputs = tapped(normalise(batch))
        return tf.stack([tf.histogram_fixed_width(t, b, BINS) for t, b in zip(outputs, bounds, strict=True)])

    counts = np.zeros((len(taps), BINS))
    for batch in tqdm(batches, desc="calibrate 2/2", unit="batch"):
        counts += histograms(batch).numpy()
    # Fewer photos have less extreme values: a smaller last batch is weighted by its size.
    shares = np.array([len(batch) / BATCH for batch in batches], np.float32)
    means = (observed * shares[:, np.newaxis, np.newaxis]).sum(0) / shares.sum()
    statistics = {
        name: Statistics(
            float(means[i, 0]),
            float(means[i, 1]),
            np.linspace(bounds[i, 0], bounds[i, 1], BINS + 1, dtype=np.float64),
            counts[i],
        )
        for i, (name, _, _) in enumerate(taps)
    }
    return [name for name, _, _ in taps], [site for _, site, _ in taps], statistics
