import math
from typing import Any

import numpy as np
import pytest
import tf_keras

from build.network.model import LayerWeights, Site, fold, network, normalise, set_weights
from build.quantization.ranges import (
    INPUT_RANGE,
    SIGMOID_RANGE,
    SILU_TAIL,
    Range,
    Statistics,
    _before_silu,
    calibrate,
    least_error_range,
    observe,
)
from tests.build.conftest import CLASSES, SIZE


def _statistics(values: np.ndarray) -> Statistics:
    counts, edges = np.histogram(values, bins=2048)
    return Statistics(float(values.min()), float(values.max()), edges, counts.astype(float))


def _error(values: np.ndarray, low: float, high: float) -> float:
    step = (high - low) / 255
    return float(((np.round(np.clip(values, low, high) / step) * step - values) ** 2).mean())


def test_evenly_spread_values_keep_their_whole_range() -> None:
    values = np.random.default_rng(0).uniform(-1, 3, 100_000)
    found = least_error_range(_statistics(values))
    assert found.low == pytest.approx(-1, abs=0.05)
    assert found.high == pytest.approx(3, abs=0.05)


def test_an_outlier_does_not_stretch_the_range() -> None:
    values = np.append(np.random.default_rng(0).normal(0, 1, 1_000_000), [40.0])
    found = least_error_range(_statistics(values))
    assert found.high < 20
    assert _error(values, found.low, found.high) < 0.5 * _error(values, values.min(), values.max())


def test_zero_is_in_every_range() -> None:
    found = least_error_range(_statistics(np.random.default_rng(0).uniform(2, 3, 10_000)))
    assert found.low == 0
    assert found.high == pytest.approx(3, abs=0.05)


def _silu(x: float) -> float:
    return x / (1 + math.exp(-x))


@pytest.mark.parametrize("high", [0.1, 3, 40])
def test_the_range_before_a_silu_leaves_out_what_makes_no_difference(high: float) -> None:
    silu = Range(-0.2785, high)
    least = SILU_TAIL * (silu.high - silu.low) / 255
    found = _before_silu(Range(-100, 50), silu)
    assert _silu(found.high) == pytest.approx(silu.high, rel=1e-5)
    assert 0 < -_silu(found.low) <= least
    # Nothing more is left out.
    assert -_silu(found.low + 0.05) > least
    assert _before_silu(Range(-2, 0.1), silu) == Range(-2, 0.1)


def test_extremes_are_means_over_batches_weighted_by_their_photos(keras_model: tf_keras.Model) -> None:
    tensors: dict[str, Any] = {}

    def place(name: str, _site: Site, tensor: Any) -> Any:
        tensors[name] = tensor
        return tensor

    weights = fold(keras_model)
    model = network(SIZE, len(CLASSES), place)
    set_weights(model, weights)
    tapped = tf_keras.Model(model.input, tensors)
    pixels = np.random.default_rng(0).integers(0, 256, (25, SIZE, SIZE, 3)).astype(np.uint8)
    batches = [tapped(normalise(batch)) for batch in (pixels[:20], pixels[20:])]
    names, _, statistics = observe(weights, pixels)
    assert ["input", *names] == [*tensors]
    for name, seen in statistics.items():
        values = [batch[name].numpy() for batch in batches]
        low = np.average([each.min() for each in values], weights=(20, 5))
        high = np.average([each.max() for each in values], weights=(20, 5))
        assert seen.low == pytest.approx(low, rel=1e-3, abs=1e-5), name
        assert seen.high == pytest.approx(high, rel=1e-3, abs=1e-5), name
        assert seen.counts.sum() == sum(each.size for each in values)


def test_calibration_gives_every_activation_a_range(keras_model: tf_keras.Model) -> None:
    names: list[str] = []
    sites: dict[str, Site] = {}

    def place(name: str, site: Site, tensor: object) -> object:
        names.append(name)
        sites[name] = site
        return tensor

    network(SIZE, len(CLASSES), place)
    pixels = np.random.default_rng(0).integers(0, 256, (25, SIZE, SIZE, 3)).astype(np.uint8)
    ranges = calibrate(fold(keras_model), pixels)
    assert set(ranges) == set(names)
    assert ranges["input"] == INPUT_RANGE
    for name, found in ranges.items():
        assert found.low <= 0 < found.high, name
        if sites[name] is Site.SIGMOID:
            assert found == SIGMOID_RANGE
        if sites[name] is Site.SILU:
            assert found.low >= -0.2785
        if sites[name] is Site.BEFORE_SILU:
            # Larger values give the same quantized output.
            highest = ranges[name.removesuffix("_in") + "_silu"].high
            assert found.high / (1 + np.exp(-found.high)) <= highest * 1.0001
    _, _, statistics = observe(fold(keras_model), pixels)
    for kind in (Site.SILU, Site.SQUEEZE_EXCITE):
        name = next(name for name in names if sites[name] is kind)
        best = least_error_range(statistics[name])
        assert (ranges[name].low, ranges[name].high) == pytest.approx((best.low, best.high), rel=1e-3), name


def test_with_the_input_range_a_pixel_is_its_own_quantized_value() -> None:
    step = (INPUT_RANGE.high - INPUT_RANGE.low) / 255
    pixels = np.arange(256)
    quantized = np.round(((pixels - 114) / 57.375 - INPUT_RANGE.low) / step)
    np.testing.assert_array_equal(quantized, pixels)


def test_the_range_of_a_tensor_of_one_value_has_zero_in_it_and_a_step(keras_model: tf_keras.Model) -> None:
    weights = fold(keras_model)
    ends = {"block2a_project_conv": 3.0, "block6a_project_conv": -3.0, "block5a_project_conv": 0.0}
    for name, end in ends.items():
        kernel, bias = np.zeros_like(weights[name].kernel), np.full_like(weights[name].bias, end)
        weights[name] = LayerWeights(kernel, bias)
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8)
    positive, negative, zero = map(calibrate(weights, pixels).__getitem__, ends)
    assert (positive, negative) == (Range(0.0, 3.0), Range(-3.0, 0.0))
    assert zero.low == 0 < zero.high < 1e-5
