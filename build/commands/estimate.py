"""Estimating how long `all` takes for your own classes, from a forward pass timed on this machine."""

import time
from collections.abc import Sequence

import tensorflow as tf

from build.network.model import Weights, network, set_weights
from build.quantization.recipe import RangeRule, Recipe
from build.training.schedule import Schedule
from build.training.transfer import HEAD_VIEWS

_BATCH = 16
_TIMED = 3
# The cost of each step in forward passes of the float network over the same photos, measured on two cores.
_TRAINING_STEP = 5.6
_QUANTIZED_TRAINING_STEP = 6.5
_FEATURES = 1.6
_CALIBRATION = 5.5
_EVALUATION_BY_VARIANT = 2.4
# Fixed costs: tracing and converting graphs, and measuring latency.
_CONVERSION_SECONDS = 12.0
_TRACING_SECONDS = 30.0
_REPORT_SECONDS = 45.0


def forward_seconds(weights: Weights, size: int) -> float:
    """Return the seconds that the float network takes per photo, in the fastest of three batches of 16."""
    model = network(size, weights["predictions"].bias.size)
    set_weights(model, weights)
    forward = tf.function(model)
    batch = tf.zeros((_BATCH, size, size, 3))
    forward(batch)  # Traces the graph, which should not be timed.
    seconds = []
    for _ in range(_TIMED):
        start = time.perf_counter()
        forward(batch)
        seconds.append(time.perf_counter() - start)
    return min(seconds) / _BATCH


def estimate(
    forward: float,
    photos: int,
    quantized_on: int,
    tested: int,
    schedule: Schedule,
    recipes: Sequence[Recipe],
) -> dict[str, float]:
    """Return the seconds of each step; `forward` is the result of `forward_seconds`.

    `photos` is the number of labelled photos to train on, `quantized_on` the number for quantization-aware
    training, and `tested` the number that each recipe's variant is evaluated on.
    """
    seconds = {
        "features": _TRACING_SECONDS + forward * photos * HEAD_VIEWS * _FEATURES,
        "train": _TRACING_SECONDS + forward * photos * schedule.epochs * _TRAINING_STEP,
    }
    for recipe in recipes:
        calibrated = (
            min(recipe.representative_images, photos) if recipe.ranges is RangeRule.LEAST_ERROR else 0
        )
        seconds[recipe.name] = _CONVERSION_SECONDS + forward * calibrated * _CALIBRATION
        if recipe.training:
            step = forward * quantized_on * _QUANTIZED_TRAINING_STEP
            seconds[recipe.name] += _TRACING_SECONDS + step * recipe.training.epochs
    seconds["evaluate"] = forward * tested * len(recipes) * _EVALUATION_BY_VARIANT
    seconds["report"] = _REPORT_SECONDS
    return seconds


def in_words(seconds: dict[str, float]) -> str:
    """Return one line with the total, and each step that takes a tenth of it or more."""
    whole = sum(seconds.values())
    parts = [f"{name} {_minutes(took)}" for name, took in seconds.items() if took >= whole / 10]
    return f"about {_minutes(whole)} on this machine if nothing else runs on it: {', '.join(parts)}"


def _minutes(seconds: float) -> str:
    return f"{round(seconds / 60)} min" if seconds >= 90 else f"{max(10, round(seconds, -1)):.0f} s"
