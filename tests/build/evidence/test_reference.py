import csv
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from build.evidence.reference import read_per_class, reference_files
from service.bundle.folder import Bundle
from service.bundle.manifest import PER_CLASS, REFERENCE
from service.bundle.reference import Reference, read_reference
from service.images.pixels import Crop
from service.inference.classifier import Classifier
from service.measuring.evaluation import Measured, answer
from service.measuring.labelled import LabelledImage, image_set, labelled_images
from tests.evaluated import EVALUATION


@pytest.fixture(scope="module")
def images(measured: Bundle, evaluation: Path) -> list[LabelledImage]:
    return labelled_images(evaluation, measured.classes)


def test_the_reference_matches_the_answers_of_the_variants(
    measured: Bundle, images: list[LabelledImage]
) -> None:
    reference = read_reference(measured)
    assert reference is not None
    assert (reference.dataset.name, reference.dataset.images, reference.crop) == ("evaluation", 16, "bundle")
    assert list(reference.variants) == ["fp32", "ptq"]
    for name, answers in reference.variants.items():
        probabilities = answer(Classifier(measured, name), images, Crop.BUNDLE)
        tops = probabilities.argmax(axis=1).tolist()
        assert answers.top1 == tuple(tops.count(index) for index in range(len(measured.labels)))
        confidence = probabilities.max(axis=1)
        assert (answers.confidence[0], answers.confidence[-1]) == (confidence.min(), confidence.max())
        assert answers.confidence[50] == pytest.approx(np.median(confidence))
        # A quarter of the images is between two quartiles.
        shares = np.histogram(confidence, np.array(answers.confidence)[::25])[0] / len(confidence)
        assert shares == pytest.approx([0.25] * 4)


def test_the_counts_per_class_match_the_answers_of_the_variants(
    measured: Bundle, images: list[LabelledImage]
) -> None:
    rows = read_per_class(measured)
    assert [(row.label, row.images) for row in rows] == [(label, 4) for label in measured.labels]
    for name in measured.manifest.variants:
        tops = answer(Classifier(measured, name), images, Crop.BUNDLE).argmax(axis=1)
        for index, row in enumerate(rows):
            right = [top == index for top, image in zip(tops, images, strict=True) if image.index == index]
            assert row.right[name] == sum(right)


def test_a_bundle_that_was_not_evaluated_has_no_counts(small: Bundle) -> None:
    assert read_per_class(small) == ()


def test_only_classes_with_images_have_rows(colours: Bundle, tmp_path: Path) -> None:
    probabilities = np.full((3, 5), 0.1, np.float32)
    probabilities[[0, 1, 2], [1, 1, 3]] = 0.6
    images = [LabelledImage(tmp_path, index, f"{number:064x}") for number, index in enumerate([1, 3, 3])]
    names = list(colours.manifest.variants)
    dataset = image_set("some", [image.sha256 for image in images])
    evaluation = EVALUATION.model_copy(update={"dataset": dataset})
    measured = Measured(dict.fromkeys(names, evaluation), dict.fromkeys(names, probabilities))
    files = reference_files(colours, images, measured)
    rows = list(csv.reader(StringIO(files[PER_CLASS].decode())))
    assert rows == [
        ["index", "class_id", "label", "images", *names],
        ["1", "c01", "blue", "1", *["1"] * len(names)],
        ["3", "c03", "red", "2", *["1"] * len(names)],
    ]
    reference = Reference.model_validate_json(files[REFERENCE])
    assert reference.dataset == dataset
    assert reference.variants["ptq"].top1 == (0, 2, 0, 1, 0)
