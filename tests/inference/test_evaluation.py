import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binomtest, entropy

from service.bundle import Bundle
from service.errors import BundleError, DatasetError
from service.inference.classifier import Classifier
from service.inference.evaluation import Candidate, answer, compare, evaluate, proportion
from service.inference.image import Crop
from service.inference.labelled import LabelledImage, image_set, labelled_images
from service.manifest import SEEN_IMAGES
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
    assert comparison.kl_nats == pytest.approx(np.mean(entropy(expected, actual, axis=1)), rel=1e-5)


def test_a_probability_of_zero_makes_a_large_but_finite_divergence() -> None:
    sure, other = np.array([[1, 0]], np.float32), np.array([[0, 1]], np.float32)
    labels = np.array([0])
    assert compare("fp32", sure, other, labels).kl_nats == pytest.approx(math.log(1e12))
    assert compare("fp32", sure, sure, labels).kl_nats == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images a class, the second's folder wrong: 5 of 10 are what their folder says."""
    names = list(RGB)
    for index, (name, rgb) in enumerate(RGB.items()):
        wrong = names[(index + 1) % len(names)]
        for owner, file, width in ((name, "right.png", 40), (wrong, f"wrong_{name}.png", 50)):
            (tmp_path / "images" / owner).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (width, 40), rgb).save(tmp_path / "images" / owner / file)
    return tmp_path / "images"


def candidates(bundle: Bundle, *variants: str) -> dict[str, Candidate]:
    return {name: Candidate(bundle, name) for name in variants}


def test_an_evaluation_counts_what_is_right(colours: Bundle, folder: Path) -> None:
    images = labelled_images(folder, colours.classes)
    evaluations = evaluate(candidates(colours, "ptq", "fp32"), images, Crop.NONE, "colours")
    assert list(evaluations) == ["ptq", "fp32"]
    for evaluation in evaluations.values():
        assert evaluation.dataset == image_set("colours", [image.sha256 for image in images])
        assert evaluation.crop == "none"
        assert evaluation.seen_images == 0
        assert evaluation.top1 == proportion(5, 10)
        assert evaluation.top5 == proportion(10, 10)
        assert not evaluation.reference
    assert evaluations["fp32"].comparison is None
    comparison = evaluations["ptq"].comparison
    assert comparison is not None
    assert comparison.agreement == proportion(10, 10)
    assert 0 < comparison.kl_nats < 0.01
    assert (comparison.lost, comparison.won) == (0, 0)


def test_without_fp32_nothing_is_compared(colours: Bundle, folder: Path) -> None:
    images = labelled_images(folder, colours.classes)
    evaluations = evaluate(candidates(colours, "ptq", "int8"), images, Crop.BUNDLE, "colours")
    assert [evaluation.comparison for evaluation in evaluations.values()] == [None, None]


def test_the_answers_are_those_that_are_served(colours: Bundle, folder: Path) -> None:
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
    assert allowed["ptq"].seen_images == 2


def test_a_damaged_image_is_named(colours: Bundle, folder: Path) -> None:
    damaged = folder / "red" / "damaged.png"
    damaged.write_bytes(b"\x89PNG\r\n\x1a\n")
    images = labelled_images(folder, colours.classes)
    with pytest.raises(DatasetError, match=r"red/damaged\.png: the PNG data is truncated"):
        evaluate(candidates(colours, "ptq"), images, Crop.BUNDLE, "colours")
    damaged.unlink()
    with pytest.raises(DatasetError, match=r"red/damaged\.png can't be read: No such file"):
        evaluate(candidates(colours, "ptq"), images, Crop.BUNDLE, "colours")


def test_no_images_and_no_variant_are_refused(colours: Bundle, folder: Path) -> None:
    with pytest.raises(DatasetError, match="no images"):
        evaluate(candidates(colours, "ptq"), [], Crop.BUNDLE, "colours")
    images = labelled_images(folder, colours.classes)
    with pytest.raises(BundleError, match="no variant 'nope'"):
        evaluate(candidates(colours, "nope"), images, Crop.BUNDLE, "colours")
