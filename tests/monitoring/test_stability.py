from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.bundle.folder import Bundle
from service.bundle.reference import QUANTILES, Answers, read_reference
from service.monitoring.stability import MOST_BINS, bins_of, stability_index

counts = st.lists(st.integers(0, 1000), min_size=2, max_size=20)


def answers(top1: list[int], confidence: list[float] | None = None) -> Answers:
    values = np.linspace(0, 1, 1000) if confidence is None else confidence
    quantiles = np.quantile(values, np.linspace(0, 1, QUANTILES))
    return Answers(top1=tuple(top1), confidence=tuple(quantiles.tolist()))


@given(data=st.data(), expected=counts)
def test_the_index_is_symmetric_and_never_negative(data: st.DataObject, expected: list[int]) -> None:
    actual = data.draw(st.lists(st.integers(0, 1000), min_size=len(expected), max_size=len(expected)))
    index = stability_index(expected, actual)
    assert index >= 0
    assert index == pytest.approx(stability_index(actual, expected), abs=1e-12)
    assert stability_index(actual, actual) == 0


def test_the_index_is_the_published_one_if_no_bin_is_empty() -> None:
    # (0.6 - 0.5) · ln(0.6 / 0.5) + (0.4 - 0.5) · ln(0.4 / 0.5); half an answer more hardly matters.
    assert stability_index([500_000, 500_000], [600_000, 400_000]) == pytest.approx(0.040547, abs=1e-5)


def test_the_index_of_one_distribution_is_as_large_as_documented() -> None:
    random = np.random.default_rng(0)
    shares = np.full(10, 0.1)
    found = [
        stability_index(random.multinomial(650, shares).tolist(), random.multinomial(1000, shares).tolist())
        for _ in range(2000)
    ]
    assert np.mean(found) == pytest.approx(9 * (1 / 650 + 1 / 1000), rel=0.05)


@given(top1=st.lists(st.integers(0, 50), min_size=1, max_size=300))
def test_every_class_is_in_a_bin_and_bins_are_consecutive(top1: list[int]) -> None:
    assume(sum(top1) >= 60)
    bins = bins_of(answers(top1))
    assert bins is not None
    classes, _ = bins
    assert len(classes.of) == len(top1)
    assert classes.of[0] == 0
    assert all(later - earlier in (0, 1) for earlier, later in pairwise(classes.of))
    assert len(classes.expected) == classes.of[-1] + 1 <= MOST_BINS
    of = np.bincount(classes.of, top1, len(classes.expected))
    assert of.tolist() == list(classes.expected)


@given(confidence=st.lists(st.sampled_from([0.2, 0.5, 0.8, 0.9, 0.95, 1.0]), min_size=60, max_size=400))
def test_repeated_confidences_are_expected_in_their_bins(confidence: list[float]) -> None:
    bins = bins_of(answers([len(confidence)], confidence))
    assert bins is not None
    _, confidences = bins
    assert sum(confidences.expected) == pytest.approx(len(confidence))
    actual = np.bincount([confidences.of(value) for value in confidence], minlength=len(confidences.expected))
    # Quantiles are given in steps of 1 %.
    assert np.abs(actual - confidences.expected).max() <= 0.02 * len(confidence) + 1


def test_the_default_bundles_bins_are_about_equal(default_bundle: Bundle) -> None:
    reference = read_reference(default_bundle)
    assert reference is not None
    for of_variant in reference.variants.values():
        bins = bins_of(of_variant)
        assert bins is not None
        for of_signal in bins:
            assert len(of_signal.expected) == 10
            assert all(58 <= expected <= 72 for expected in of_signal.expected)


@pytest.mark.parametrize(("images", "bins"), [(59, None), (60, 2), (299, 9), (300, 10), (5000, 10)])
def test_a_small_reference_has_few_bins_or_none(images: int, bins: int | None) -> None:
    found = bins_of(answers([1] * images))
    assert (len(found[0].expected) if found else None) == bins
    assert (len(found[1].expected) if found else None) == bins
