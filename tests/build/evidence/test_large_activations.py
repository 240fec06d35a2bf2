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
from service.results.words import divergence
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
def of_float(rounded: RoundedNetwork, start: Network, pixels: Pixels) -> Floats:
    """The answers before anything is set: those of the float network."""
    answers = rounded.probabilities(pixels)
    np.testing.assert_allclose(answers, plain(start, leave, pixels), atol=1e-5)
    return answers


def histogram(values: NDArray[np.float64]) -> Statistics:
    counts, edges = np.histogram(values, 2048)
    return Statistics(float(values.min()), float(values.max()), edges, counts.astype(float))


def plain(start: Network, place: Place, pixels: Pixels) -> Floats:
    """The answers of a network that is built for one setting."""
    model = network(SIZE, len(CLASSES), place)
    set_weights(model, start.weights)
    answers: Floats = tf.nn.softmax(with_pixel_input(model)(pixels.astype(np.float32))).numpy()
    return answers


def place_of(statistics: dict[str, Statistics], names: list[str], share: float, is_kept: bool) -> Place:
    """Rounds to 4 bits, and what is kept to 16, by TensorFlow's own fake quantization."""

    def place(name: str, _site: Site, tensor: Any) -> Any:
        if name not in names:
            return tensor
        small, every = (small_range(statistics[name], of) for of in (share, 0.0))

        def apply(values: Any) -> Any:
            few = tf.quantization.fake_quant_with_min_max_args(values, small.low, small.high, num_bits=4)
            many = tf.quantization.fake_quant_with_min_max_args(values, every.low, every.high, num_bits=16)
            return tf.where(tf.abs(values) > max(-small.low, small.high), many, few) if is_kept else few

        return tf_keras.layers.Lambda(apply, name=f"{name}_few")(tensor)

    return place


def test_small_values_are_all_but_the_share_of_the_largest() -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    seen = histogram(values)
    for share in (0.01, 0.05, 0.2):
        small = small_range(seen, share)
        assert small.low == -small.high
        assert (np.abs(values) > small.high).mean() == pytest.approx(share, rel=0.05)
    assert small_range(seen, 0.0) == pytest.approx(Range(values.min(), values.max()), abs=1e-6)


def test_small_values_of_one_sign_have_a_range_of_one_side() -> None:
    values = np.random.default_rng(0).exponential(size=100_000)
    small = small_range(histogram(np.append(values, -0.2)), 0.02)
    assert small.low == pytest.approx(-0.2)
    assert small.high == pytest.approx(-np.log(0.02), rel=0.05)


def test_what_layers_with_weights_take_is_rounded_and_nothing_else(rounded: RoundedNetwork) -> None:
    names = set(rounded.rounded)
    assert len(names) == len(rounded.rounded) == 91  # Of 92 layers the stem takes the photo.
    assert {
        "stem_activation_silu",
        "block2b_add",
        "block4a_se_squeeze",
        "block4a_se_excite",
        "avg_pool",
    } <= names
    # The activation between two operators of one SiLU, what the gate and the sum take, and the answer.
    others = {
        "input",
        "block4b_expand_activation_in",
        "block4b_dwconv2",
        "block2b_project_conv",
        "predictions",
    }
    assert not names & others
    assert not any(name.endswith("_sigmoid") for name in names)


@pytest.mark.parametrize(("share", "is_kept"), [(0.0, False), (0.03, False), (0.03, True)])
def test_what_layers_take_is_rounded(
    start: Network,
    statistics: dict[str, Statistics],
    rounded: RoundedNetwork,
    pixels: Pixels,
    of_float: Floats,
    share: float,
    is_kept: bool,
) -> None:
    rounded.set(0.2, not is_kept)  # What was set before is so no more.
    rounded.set(share, is_kept)
    actual = rounded.probabilities(pixels)
    expected = plain(start, place_of(statistics, rounded.rounded, share, is_kept), pixels)
    # Two graphs add up in different orders, and a last digit can tip a rounding.
    assert np.abs(actual - expected).mean() < 0.2 * np.abs(expected - of_float).mean()


def test_the_table_has_every_setting_beside_float_and_beside_clipping(
    start: Network, calibration: Path, evaluation: Path
) -> None:
    photos = labelled_photos(evaluation, start.classes)
    simulated = simulate_activations(start, sample(calibration, 16), photos, Crop.BUNDLE, [8, 2], [0.0, 0.03])
    assert [(of.bits, of.share, of.is_kept) for of in simulated] == [
        (bits, share, is_kept)
        for bits in (8, 2)
        for share, is_kept in ((0, False), (0.03, False), (0.03, True))
    ]
    fine, coarse = simulated[0].against_float, simulated[3].against_float
    assert fine.kl_nats < 0.1 * coarse.kl_nats
    for of in simulated:
        assert (of.against_clipped is not None) == of.is_kept
        assert of.top1.count + of.against_float.lost - of.against_float.won == simulated[0].top1.count + (
            simulated[0].against_float.lost - simulated[0].against_float.won
        )
    rows = activations_table(simulated).splitlines()[2:]
    for of, row in zip(simulated, rows, strict=True):
        cells = [cell.strip() for cell in row.split("|")[1:-1]]
        assert cells[:3] == [
            str(of.bits),
            f"{100 * of.share:g}",
            ("clipped" if of.share else "none", "kept")[of.is_kept],
        ]
        assert cells[5] == divergence(of.against_float)
        assert bool(cells[7]) == of.is_kept
