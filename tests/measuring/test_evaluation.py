import math
import re
import tracemalloc
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binomtest, entropy, sem

from service.bundle.folder import Bundle
from service.bundle.manifest import SEEN_IMAGES, comparison_with
from service.errors import BundleError, DatasetError
from service.images.pixels import Crop
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate
from service.measuring.evaluation import (
    Candidate,
    answer,
    compare,
    evaluate,
    expected_calibration_error,
    hits,
    proportion,
)
from service.measuring.labelled import LabelledImage, image_set, labelled_images
from service.results.words import divergence_in_words
from tests.colours import RGB, altered, lines


@given(total=st.integers(1, 100_000), share=st.floats(0, 1))
def test_the_interval_is_wilsons(total: int, share: float) -> None:
    count = round(share * total)
    result = proportion(count, total)
    reference = binomtest(count, total).proportion_ci(0.95, method="wilson")
    assert (result.count, result.ratio) == (count, count / total)
    assert (result.lower, result.upper) == pytest.approx((reference.low, reference.high), abs=1e-9)
    assert 0 <= result.lower <= result.ratio <= result.upper <= 1


def test_variants_are_compared_image_by_image() -> None:
    expected = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], np.float32)
    actual = np.array([[0.6, 0.3, 0.1], [0.3, 0.6, 0.1], [0.5, 0.2, 0.3], [0.1, 0.1, 0.8]], np.float32)
    comparison = compare("fp32", expected, actual, np.array([0, 1, 1, 0]))
    assert comparison.against == "fp32"
    assert comparison.agreement == proportion(2, 4)
    assert (comparison.lost, comparison.won) == (1, 1)
    divergences = entropy(expected, actual, axis=1)
    assert comparison.kl_nats == pytest.approx(np.mean(divergences), rel=1e-5)
    assert comparison.kl_nats_error == pytest.approx(sem(divergences), rel=1e-5)


def test_a_probability_of_zero_makes_a_large_but_finite_divergence() -> None:
    sure, other = np.array([[1, 0]], np.float32), np.array([[0, 1]], np.float32)
    labels = np.array([0])
    assert compare("fp32", sure, other, labels).kl_nats == pytest.approx(math.log(1e12))
    assert compare("fp32", sure, sure, labels).kl_nats == 0


def test_one_image_has_no_standard_error() -> None:
    scores = np.array([[0.9, 0.1]], np.float32)
    comparison = compare("fp32", scores, scores, np.array([0]))
    assert comparison.kl_nats_error is None
    assert divergence_in_words(comparison) == "0.0000"


def test_the_calibration_error_equals_one_computed_by_hand() -> None:
    # Two answers in the bin (12/15, 13/15], one of them right; one in (7/15, 8/15], right; one in
    # (11/15, 12/15], wrong.
    probabilities = np.array([[0.85, 0.15], [0.15, 0.85], [0.5, 0.5], [0.75, 0.25]], np.float32)
    labels = np.array([0, 0, 0, 1])
    by_hand = (2 / 4) * abs(1 / 2 - 0.85) + (1 / 4) * abs(1 - 0.5) + (1 / 4) * abs(0 - 0.75)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(by_hand, abs=1e-7)


def test_bins_end_at_multiples_of_a_fifteenth() -> None:
    # Just below and just above 8/15, which is no float32: in one bin their errors, 8/15 - 1 and 8/15,
    # would nearly cancel out.
    edge = np.float32(8 / 15)
    edge = edge if float(edge) <= 8 / 15 else np.nextafter(edge, np.float32(0))
    above = np.nextafter(np.nextafter(edge, np.float32(1)), np.float32(1))
    probabilities = np.array([[edge, 1 - edge], [above, 1 - above]], np.float32)
    apart = expected_calibration_error(probabilities, np.array([0, 1]))
    assert apart == pytest.approx((7 / 15 + 8 / 15) / 2, abs=1e-6)
    just_below = np.nextafter(edge, np.float32(0))
    probabilities[1] = [just_below, 1 - just_below]
    together = expected_calibration_error(probabilities, np.array([0, 1]))
    assert together == pytest.approx(abs(16 / 15 - 1) / 2, abs=1e-6)


@pytest.mark.parametrize("edge", range(8, 15))
def test_an_edge_rounded_to_float32_belongs_to_the_bin_below(edge: int) -> None:
    # In two bins, as they should be, the errors of a wrong and a right answer do not cancel out.
    at, above = np.float32(edge / 15), np.float32(edge / 15 + 0.01)
    probabilities = np.array([[at, 1 - at], [above, 1 - above]], np.float32)
    apart = expected_calibration_error(probabilities, np.array([1, 0]))
    assert apart == pytest.approx((at + 1 - above) / 2, abs=1e-6)


@given(seed=st.integers(0, 2**32 - 1), images=st.integers(1, 60), classes=st.integers(2, 8))
def test_the_calibration_error_is_the_sum_over_bins(seed: int, images: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(classes), images).astype(np.float32)
    labels = random.integers(0, classes, images)
    expected = 0.0
    for m in range(1, 16):
        confidence = probabilities.max(axis=1).astype(np.float64)
        chosen = (confidence * 15 > m - 1) & (confidence * 15 <= m)
        if chosen.any():
            accuracy = (probabilities.argmax(axis=1) == labels)[chosen].mean()
            expected += chosen.mean() * abs(accuracy - confidence[chosen].mean())
    actual = expected_calibration_error(probabilities, labels)
    assert actual == pytest.approx(expected, abs=1e-9)
    # The gap over all images is never larger than the sum of the bins' gaps.
    whole = (probabilities.argmax(axis=1) == labels).mean() - probabilities.max(axis=1).mean(dtype=np.float64)
    assert abs(whole) - 1e-9 <= actual <= 1


def test_sure_right_answers_are_calibrated_and_sure_wrong_ones_are_not() -> None:
    sure = np.eye(3, dtype=np.float32)
    assert expected_calibration_error(sure, np.arange(3)) == 0
    assert expected_calibration_error(sure, np.array([1, 2, 0])) == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images per class, one of them in a wrong folder: 5 of 10 are in the right one."""
    names = list(RGB)
    for index, (name, rgb) in enumerate(RGB.items()):
        wrong = names[(index + 1) % len(names)]
        for owner, file, width in ((name, "right.png", 40), (wrong, f"wrong_{name}.png", 50)):
            (tmp_path / "images" / owner).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (width, 40), rgb).save(tmp_path / "images" / owner / file)
    return tmp_path / "images"


def candidates(bundle: Bundle, *variants: str) -> dict[str, Candidate]:
    return {name: Candidate(bundle, name) for name in variants}


def test_an_image_without_an_answer_ends_an_evaluation_and_is_named(
    logarithmic: Bundle, folder: Path
) -> None:
    images = labelled_images(folder, logarithmic.classes)
    with pytest.raises(DatasetError, match=r"black/right\.png: variant fp32 gives NaN or infinity for this"):
        evaluate(candidates(logarithmic, "fp32"), images, Crop.BUNDLE, "colours")


def test_an_evaluation_counts_right_answers(colours: Bundle, folder: Path) -> None:
    images = labelled_images(folder, colours.classes)
    evaluations = evaluate(candidates(colours, "ptq", "fp32"), images, Crop.NONE, "colours").evaluations
    assert list(evaluations) == ["ptq", "fp32"]
    for evaluation in evaluations.values():
        assert evaluation.runtime.startswith("ai-edge-litert ")
        assert evaluation.delegate == "xnnpack"
        assert set(evaluation.tools) == {"pillow", "simplejpeg"}
        assert evaluation.dataset == image_set("colours", [image.sha256 for image in images])
        assert evaluation.crop == "none"
        assert evaluation.seen_images == 0
        assert evaluation.top1 == proportion(5, 10)
        assert evaluation.top5 == proportion(10, 10)
        assert not evaluation.reference
    comparison = comparison_with(evaluations["ptq"], "fp32")
    assert comparison is not None
    assert comparison.agreement == proportion(10, 10)
    assert 0 < comparison.kl_nats < 0.01
    assert (comparison.lost, comparison.won) == (0, 0)


def test_each_variant_is_compared_with_every_other(colours: Bundle, folder: Path) -> None:
    images = labelled_images(folder, colours.classes)
    names = ["ptq", "softmax", "fp32"]
    measured = evaluate(candidates(colours, *names), images, Crop.BUNDLE, "colours")
    labels = np.array([image.index for image in images])
    for name, evaluation in measured.evaluations.items():
        answers = answer(Classifier(colours, name), images, Crop.BUNDLE)
        np.testing.assert_array_equal(measured.probabilities[name], answers)
        assert evaluation.ece == expected_calibration_error(answers, labels)
        assert [comparison.against for comparison in evaluation.comparisons] == [
            other for other in names if other != name
        ]
        for comparison in evaluation.comparisons:
            other = measured.probabilities[comparison.against]
            assert comparison == compare(comparison.against, other, answers, labels)


def test_a_single_variant_has_no_comparisons(colours: Bundle, folder: Path) -> None:
    images = labelled_images(folder, colours.classes)
    alone = evaluate(
        candidates(colours, "ptq"), images, Crop.BUNDLE, "colours", delegate=Delegate.NONE
    ).evaluations["ptq"]
    assert alone.comparisons == ()
    assert alone.delegate == "none"


def test_the_answers_equal_those_of_the_served_classifier(colours: Bundle, folder: Path) -> None:
    images = labelled_images(folder, colours.classes)
    classifier = Classifier(colours, "ptq")
    shown: list[tuple[int, str]] = []

    def progress(images: Sequence[LabelledImage], variant: str) -> Iterable[LabelledImage]:
        for number, image in enumerate(images):
            shown.append((number, variant))
            yield image

    answers = answer(classifier, images, Crop.BUNDLE, progress)
    assert answers.dtype == np.float32
    for row, image in zip(answers, images, strict=True):
        served = classifier.classify(image.path.read_bytes()).probabilities
        np.testing.assert_array_equal(row, served)
    assert shown == [(number, "ptq") for number in range(10)]


def test_images_that_the_network_has_seen_are_refused(colours: Bundle, folder: Path, tmp_path: Path) -> None:
    images = labelled_images(folder, colours.classes)
    seen = [images[7], images[3]]
    bundle = altered(colours, tmp_path / "bundle", {SEEN_IMAGES: lines(image.sha256[:16] for image in seen)})
    with pytest.raises(DatasetError, match=r"2 of the 10 images .* the first ") as caught:
        evaluate(candidates(bundle, "ptq"), images, Crop.BUNDLE, "colours")
    assert str(images[3].path) in str(caught.value)
    allowed = evaluate(candidates(bundle, "ptq"), images, Crop.BUNDLE, "colours", allow_seen=True)
    assert allowed.evaluations["ptq"].seen_images == 2


def test_a_damaged_image_is_named(colours: Bundle, folder: Path) -> None:
    damaged = folder / "red" / "damaged.png"
    damaged.write_bytes(b"\x89PNG\r\n\x1a\n")
    images = labelled_images(folder, colours.classes)
    with pytest.raises(DatasetError, match=r"red/damaged\.png: the PNG data is truncated"):
        evaluate(candidates(colours, "ptq"), images, Crop.BUNDLE, "colours")
    damaged.unlink()
    with pytest.raises(DatasetError, match=r"red/damaged\.png can't be read: No such file"):
        evaluate(candidates(colours, "ptq"), images, Crop.BUNDLE, "colours")


def test_all_damaged_images_are_counted_and_the_first_ones_named(colours: Bundle, folder: Path) -> None:
    for number in range(5):
        (folder / "red" / f"damaged{number}.png").write_bytes(b"no image %d" % number)
    images = labelled_images(folder, colours.classes)
    with pytest.raises(DatasetError, match=r"^5 of 15 images can't be classified, first ") as caught:
        evaluate(candidates(colours, "ptq"), images, Crop.BUNDLE, "colours")
    assert re.findall(r"damaged\d", str(caught.value)) == ["damaged0", "damaged1", "damaged2"]


def test_no_images_and_no_variant_are_refused(colours: Bundle, folder: Path) -> None:
    with pytest.raises(DatasetError, match="no images"):
        evaluate(candidates(colours, "ptq"), [], Crop.BUNDLE, "colours")
    images = labelled_images(folder, colours.classes)
    with pytest.raises(BundleError, match="no variant 'nope'"):
        evaluate(candidates(colours, "nope"), images, Crop.BUNDLE, "colours")


@given(
    seed=st.integers(0, 2**32 - 1), images=st.integers(1, 20), classes=st.integers(1, 8), k=st.integers(1, 8)
)
def test_the_most_probable_classes_are_those_of_a_stable_sort(
    seed: int, images: int, classes: int, k: int
) -> None:
    random = np.random.default_rng(seed)
    # Rounded, so that some are equal: then the lower index is first.
    probabilities = random.dirichlet(np.ones(classes), images).round(1).astype(np.float32)
    labels = random.integers(0, classes, images)
    most = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    assert hits(probabilities, labels, k).count == (most == labels[:, np.newaxis]).sum()


def test_results_take_little_memory_beside_the_answers() -> None:
    random = np.random.default_rng(0)
    expected, actual = random.dirichlet(np.ones(500), (2, 1000)).astype(np.float32)
    labels = random.integers(0, 500, 1000)
    tracemalloc.start()
    try:
        hits(actual, labels, 5)
        expected_calibration_error(actual, labels)
        compare("fp32", expected, actual, labels)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < actual.nbytes / 4
