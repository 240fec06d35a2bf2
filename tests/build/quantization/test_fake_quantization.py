from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from build.network.model import Site, network
from build.network.weights import Network
from build.quantization.fake_quantization import (
    _STEP,
    WRAPPED,
    _ActivationQuantizer,
    _fake_quantize,
    trained_values,
)
from build.quantization.ranges import INPUT_RANGE, SIGMOID_RANGE, STEPS, Range
from service.bundle.folder import Bundle
from tests.build.conftest import CLASSES, SIZE
from tests.build.quantization.stored import Floats, stored_kernels

RATE = 100.0


@pytest.fixture
def moved(fake_quantized: tf_keras.Model) -> Iterator[tf_keras.Model]:
    """The network with steps that are up to a quarter larger or smaller, as after training."""
    random = np.random.default_rng(0)
    steps = [weight for weight in fake_quantized.weights if _STEP in weight.name]
    for step in steps:
        step.assign(random.uniform(-0.25, 0.25))
    yield fake_quantized
    for step in steps:
        step.assign(0.0)


def is_depthwise(layer: str) -> bool:
    return layer.endswith("dwconv2")


def test_kernels_match_those_that_the_converter_stores(
    fake_quantized: tf_keras.Model, small: Bundle, representative: NDArray[np.uint8], start: Network
) -> None:
    fake_quantized(normalised(representative[:1]))
    stored = stored_kernels(small.variant_path("ptq").read_bytes())
    assert stored.keys() == start.weights.keys()
    for name, (integers, scales) in stored.items():
        layer = fake_quantized.get_layer(WRAPPED + name).layer
        # The last call replaced the kernel with the quantized one that it computed with.
        kernel = (layer.depthwise_kernel if is_depthwise(name) else layer.kernel).numpy()
        steps = scales[:, np.newaxis] if is_depthwise(name) else scales
        assert len(scales) == kernel.shape[2 if is_depthwise(name) else -1]
        levels = np.round(kernel / steps)
        np.testing.assert_allclose(kernel, levels * steps, rtol=1e-5, atol=1e-9, err_msg=name)
        # At most 255 levels, as many below zero as above.
        assert np.abs(levels).max() == np.abs(integers.astype(int)).max() == 127
        # A value halfway between two may be rounded to either.
        differ = levels != integers
        assert np.abs(levels - integers).max() <= 1, name
        halves = np.abs(start.weights[name].kernel / steps)[differ] % 1
        np.testing.assert_allclose(halves, 0.5, atol=1e-4, err_msg=name)


def normalised(pixels: NDArray[np.uint8]) -> Floats:
    return (pixels.astype(np.float32) - 114) / 57.375


def activations(model: tf_keras.Model, pixels: NDArray[np.uint8]) -> dict[str, tuple[Site, Floats]]:
    """The kind and the values of each activation, by the name of its range."""
    found: dict[str, tuple[Site, Any]] = {}

    def note(name: str, site: Site, tensor: Any) -> Any:
        if site is not Site.INPUT:
            found[name] = (site, model.get_layer(WRAPPED + tensor.node.layer.name).output)
        return tensor

    network(SIZE, len(CLASSES), note)
    values = tf_keras.Model(model.input, [output for _, output in found.values()])(normalised(pixels))
    return {
        name: (site, value.numpy()) for (name, (site, _)), value in zip(found.items(), values, strict=True)
    }


def assert_on_grids(found: dict[str, tuple[Site, Floats]], ranges: dict[str, Range]) -> None:
    assert found.keys() | {"input"} == ranges.keys()
    for name, (site, values) in found.items():
        step = (ranges[name].high - ranges[name].low) / STEPS
        zero_point = round(-ranges[name].low / step)
        integers = values / step
        assert np.abs(integers - np.round(integers)).max() < 1e-3, name
        assert -zero_point - 1e-3 < integers.min() <= integers.max() < STEPS - zero_point + 1e-3, name
        assert len(np.unique(values)) > 1, name
        if site is Site.SIGMOID:
            assert (step, zero_point) == (1 / 256, 0)


def test_activations_are_on_the_grid_of_their_range(
    fake_quantized: tf_keras.Model, ranges: dict[str, Range], representative: NDArray[np.uint8]
) -> None:
    assert_on_grids(activations(fake_quantized, representative[:2]), ranges)


def test_activations_are_on_the_grid_of_a_range_that_was_changed(
    moved: tf_keras.Model, ranges: dict[str, Range], representative: NDArray[np.uint8]
) -> None:
    learned = trained_values(moved, SIZE, len(CLASSES)).ranges
    found = activations(moved, representative[:2])
    assert_on_grids(found, learned)
    for name, (site, _) in found.items():
        was, is_ = ((r[name].high - r[name].low) for r in (ranges, learned))
        assert (is_ == was) == (site is Site.SIGMOID), name
    assert learned["input"] == INPUT_RANGE


def test_zero_stays_exact_when_the_step_is_changed(moved: tf_keras.Model) -> None:
    learned = trained_values(moved, SIZE, len(CLASSES)).ranges
    for name, found in learned.items():
        step = (found.high - found.low) / STEPS
        assert found.low <= 0 <= found.high
        assert -found.low / step == pytest.approx(round(-found.low / step), abs=1e-6), name
        # The converter and the int8 kernels do the same.
        converted = tf.quantization.fake_quant_with_min_max_args(tf.zeros(1), found.low, found.high)
        assert converted.numpy() == 0, name
        if found not in (SIGMOID_RANGE, INPUT_RANGE):
            assert _fake_quantize(tf.zeros(1), tf.constant(step, tf.float32), round(-found.low / step)) == 0


def test_values_that_were_not_trained_are_read_back_unchanged(
    fake_quantized: tf_keras.Model, start: Network, ranges: dict[str, Range]
) -> None:
    values = trained_values(fake_quantized, SIZE, len(CLASSES))
    weights, learned = values.weights, values.ranges
    assert weights.keys() == start.weights.keys()
    for name, layer in weights.items():
        assert layer.kernel.tobytes() == start.weights[name].kernel.tobytes(), name
        assert layer.bias.tobytes() == start.weights[name].bias.tobytes(), name
    assert learned.keys() == ranges.keys()
    for name, found in learned.items():
        step = (ranges[name].high - ranges[name].low) / STEPS
        # The step is the same. The range moves by less than a step, so that zero is exact.
        assert found.high - found.low == pytest.approx(STEPS * step, rel=1e-6), name
        assert abs(found.low - ranges[name].low) <= step / 2 * 1.001, name


def test_every_range_except_those_of_sigmoids_is_learned(fake_quantized: tf_keras.Model) -> None:
    learned = {w.name.split("/")[0] for w in fake_quantized.trainable_weights if _STEP in w.name}
    every = {layer.name for layer in fake_quantized.layers if layer.weights}
    assert learned == {name for name in every if not name.endswith("_sigmoid")}
    kernels_and_biases = 2 * (75 + 16 + 1)
    assert len(fake_quantized.trainable_weights) == len(learned) + kernels_and_biases


@pytest.mark.parametrize("zero_point", [0, 7, 100, 255])
def test_the_gradient_of_the_step_is_that_of_learned_step_sizes(zero_point: int) -> None:
    step = 0.037
    random = np.random.default_rng(zero_point)
    # Some values are clipped on either side, about a fifth in all.
    low, high = -zero_point * step, (STEPS - zero_point) * step
    x = random.uniform(low - 1, high + 1, 1000).astype(np.float32)
    upstream = random.normal(0, 1, 1000).astype(np.float32)
    levels = x.astype(np.float64) / step
    below, above = levels < -zero_point, levels > STEPS - zero_point
    assert below.sum() > 50
    assert above.sum() > 50
    # Esser et al., "Learned Step Size Quantization", equation 3 (and 5 for the values).
    of_step = np.select([below, above], [-zero_point, STEPS - zero_point], np.round(levels) - levels)
    variable, values = tf.Variable(step, dtype=tf.float32), tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(values)
        quantized = _fake_quantize(values, variable, zero_point)
        loss = tf.reduce_sum(quantized * upstream)
    by_value, by_step = tape.gradient(loss, [values, variable])
    np.testing.assert_allclose(
        quantized, step * np.clip(np.round(levels), -zero_point, STEPS - zero_point), atol=1e-4
    )
    np.testing.assert_array_equal(by_value, np.where(below | above, 0, upstream))
    assert float(by_step) == pytest.approx((upstream * of_step).sum(), rel=1e-3)


def test_a_learned_step_is_trained_by_its_logarithm() -> None:
    quantizer = _ActivationQuantizer(-1.0, 3.0, RATE)
    variable = tf.Variable(0.002)
    x = tf.constant([-5.0, -0.3, 0.1, 9.0])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(quantizer(x, True, {_STEP: variable}))
    step = 4 / STEPS * np.exp(RATE * 0.002)
    assert quantizer.zero_point == 64
    levels = x.numpy()[1:3] / step
    by_step = -64 + (np.round(levels) - levels).sum() + (STEPS - 64)
    assert float(tape.gradient(loss, variable)) == pytest.approx(by_step * step * RATE, rel=1e-3)
    found = quantizer.range(np.float32(0.002))
    assert (found.low, found.high) == pytest.approx((-64 * step, 191 * step), rel=1e-5)


def test_a_range_that_begins_at_zero_still_does_when_the_step_is_moved() -> None:
    quantizer = _ActivationQuantizer(0.0, 3.0, RATE)
    found = quantizer.range(np.float32(0.002))
    assert (found.low, found.high) == pytest.approx((0, 3 * np.exp(RATE * 0.002)), rel=1e-5)
