from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from build.evidence.large_activations import (
    RoundedNetwork,
    activations_table,
    simulate_activations,
    small_range,
)
from build.network.model import Place, Site, leave, network, set_weights, with_pixel_input
from build.network.weights import Network
from build.photos.data import labelled_photos, sample
from build.quantization.ranges import Range, Statistics, observe
from service.images.pixels import Crop
from service.results.words import divergence_in_words
from tests.build.conftest import CLASSES, SIZE

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def statistics(start: Network, representative: Pixels) -> dict[str, Statistics]:
    return observe(start.weights, representative)[2]


@pytest.fixture(scope="module")
def rounded(start: Network, statistics: dict[str, Statistics]) -> RoundedNetwork:
    return RoundedNetwork(start.weights, SIZE, statistics, 4)


@pytest.fixture(scope="module")
def float_answers(rounded: RoundedNetwork, start: Network, pixels: Pixels) -> Floats:
    """The answers before anything is rounded, which are those of the float network."""
    answers = rounded.probabilities(pixels)
    np.testing.assert_allclose(answers, answers_of_one_setting(start, leave, pixels), atol=1e-5)
    return answers


def histogram(values: NDArray[np.float64]) -> Statistics:
    counts, edges = np.histogram(values, 2048)
    return Statistics(float(values.min()), float(values.max()), edges, counts.astype(float))


def answers_of_one_setting(start: Network, place: Place, pixels: Pixels) -> Floats:
    """The answers of a network that is built for one setting only."""
    model = network(SIZE, len(CLASSES), place)
    set_weights(model, start.weights)
    answers: Floats = tf.nn.softmax(with_pixel_input(model)(pixels.astype(np.float32))).numpy()
    return answers


def place_of(statistics: dict[str, Statistics], names: list[str], share: float, is_kept: bool) -> Place:
    """Round to 4 bits, and kept large values to 16, by TensorFlow's own fake quantization."""

    def place(name: str, _site: Site, tensor: Any) -> Any:
        if name not in names:
            return tensor
        small, every = (small_range(statistics[name], left_out) for left_out in (share, 0.0))

        def apply(values: Any) -> Any:
            few = tf.quantization.fake_quant_with_min_max_args(values, small.low, small.high, num_bits=4)
            many = tf.quantization.fake_quant_with_min_max_args(values, every.low, every.high, num_bits=16)
            return tf.where(tf.abs(values) > max(-small.low, small.high), many, few) if is_kept else few

        return tf_keras.layers.Lambda(apply, name=f"{name}_few")(tensor)

    return place


def test_the_small_range_leaves_out_the_share_of_the_largest_values() -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    seen = histogram(values)
    for share in (0.01, 0.05, 0.2):
        small = small_range(seen, share)
        assert small.low == -small.high
        assert (np.abs(values) > small.high).mean() == pytest.approx(share, rel=0.05)
    assert small_range(seen, 0.0) == pytest.approx(Range(values.min(), values.max()), abs=1e-6)


def test_the_small_range_of_one_sided_values_is_one_sided() -> None:
    values = np.random.default_rng(0).exponential(size=100_000)
    small = small_range(histogram(np.append(values, -0.2)), 0.02)
    assert small.low == pytest.approx(-0.2)
    assert small.high == pytest.approx(-np.log(0.02), rel=0.05)


def test_only_the_inputs_of_layers_with_weights_are_rounded(
    rounded: RoundedNetwork, statistics: dict[str, Statistics]
) -> None:
    names = set(rounded.rounded)
    assert len(names) == len(rounded.rounded) == 91  # All 92 layers but the stem, which takes the photo.
    assert {
        "stem_activation_silu",
        "block2b_add",
        "block4a_se_squeeze",
        "block4a_se_excite",
        "avg_pool",
    } <= names
    # The inputs of SiLUs, of a gate and of a sum, and the answer.
    others = {
        "block4b_expand_activation_in",
        "block4b_activation_in",
        "block4b_activation_silu",
        "block2b_project_conv",
        "predictions",
    }
    assert others <= statistics.keys()
    assert not names & (others | {"input"})
    assert not any(name.endswith("_sigmoid") for name in names)


@pytest.mark.parametrize(("share", "is_kept"), [(0.0, False), (0.03, False), (0.03, True)])
def test_rounding_matches_tensorflows_fake_quantization(
    start: Network,
    statistics: dict[str, Statistics],
    rounded: RoundedNetwork,
    pixels: Pixels,
    float_answers: Floats,
    share: float,
    is_kept: bool,
) -> None:
    rounded.set(0.2, not is_kept)  # An earlier setting must have no effect.
    rounded.set(share, is_kept)
    actual = rounded.probabilities(pixels)
    expected = answers_of_one_setting(start, place_of(statistics, rounded.rounded, share, is_kept), pixels)
    # The two graphs add in different orders, so a value may round to the next level.
    assert np.abs(actual - expected).mean() < 0.2 * np.abs(expected - float_answers).mean()


def test_the_table_compares_every_setting_with_float_and_with_clipping(
    start: Network, calibration: Path, evaluation: Path
) -> None:
    photos = labelled_photos(evaluation, start.classes)
    simulated = simulate_activations(start, sample(calibration, 16), photos, Crop.BUNDLE, [8, 2], [0.0, 0.03])
    assert [(result.bits, result.share, result.is_kept) for result in simulated] == [
        (bits, share, is_kept)
        for bits in (8, 2)
        for share, is_kept in ((0, False), (0.03, False), (0.03, True))
    ]
    fine, coarse = simulated[0].against_float, simulated[3].against_float
    assert fine.kl_nats < 0.1 * coarse.kl_nats
    for result in simulated:
        assert (result.against_clipped is not None) == result.is_kept
        assert result.top1.count + result.against_float.lost - result.against_float.won == simulated[
            0
        ].top1.count + (simulated[0].against_float.lost - simulated[0].against_float.won)
    rows = activations_table(simulated).splitlines()[2:]
    for result, row in zip(simulated, rows, strict=True):
        cells = [cell.strip() for cell in row.split("|")[1:-1]]
        assert cells[:3] == [
            str(result.bits),
            f"{100 * result.share:g}",
            ("clipped" if result.share else "none", "kept")[result.is_kept],
        ]
        assert cells[5] == divergence_in_words(result.against_float)
        assert bool(cells[7]) == result.is_kept
