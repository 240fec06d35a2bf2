"""Accuracy of variants on labelled images, through the very classifier that serves."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.bundle import SEEN_DIGITS, Bundle
from service.errors import DatasetError, RequestError
from service.inference.classifier import Classifier, ranking
from service.inference.delegates import Delegate
from service.inference.image import Crop
from service.inference.labelled import LabelledImage, image_set
from service.manifest import Comparison, Evaluation, Proportion

BASELINE = "fp32"

# Wraps the images as they are gone through, to show how far it is: takes them and what is done.
Progress = Callable[[Sequence[LabelledImage], str], Iterable[LabelledImage]]

_Z_95 = 1.959963984540054
# A quantized softmax can say 0, which would make a divergence infinite.
_LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Candidate:
    """A variant to evaluate, and the bundle that it is of."""

    bundle: Bundle
    variant: str


def silent(images: Sequence[LabelledImage], _what: str) -> Iterable[LabelledImage]:
    """The `Progress` that shows nothing."""
    return images


def proportion(count: int, total: int) -> Proportion:
    """`count` of `total` (at least 1), with the 95 % Wilson interval."""
    ratio = count / total
    spread = _Z_95**2 / total
    centre = (ratio + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (ratio * (1 - ratio) + spread / 4)) / (1 + spread)
    # At 0 and at `total` an end of the interval is the ratio itself, give or take a rounding.
    lower, upper = max(0.0, min(centre - half, ratio)), min(1.0, max(centre + half, ratio))
    return Proportion(count=count, ratio=ratio, lower=lower, upper=upper)


def answer(
    classifier: Classifier, images: Sequence[LabelledImage], crop: Crop, progress: Progress = silent
) -> NDArray[np.float32]:
    """The probabilities for each image: float32[images, classes].

    Raises:
        DatasetError: an image can't be read or decoded.
    """
    answers = np.empty((len(images), classifier.bundle.manifest.classes), np.float32)
    for row, image in zip(answers, progress(images, classifier.variant), strict=True):
        try:
            row[:] = classifier.classify(image.path.read_bytes(), crop).probabilities
        except RequestError as error:
            raise DatasetError(f"{image.path}: {error}") from None
        except OSError as error:
            raise DatasetError(f"{image.path} can't be read: {error.strerror}") from None
    return answers


def compare(
    against: str,
    expected: NDArray[np.float32],
    actual: NDArray[np.float32],
    labels: NDArray[np.intp],
) -> Comparison:
    """Compare two variants' probabilities for the same images.

    `expected`, those of `against`, and `actual` are float32[images, classes], `labels` the true
    indices [images]. A probability below 1e-12 counts as that in the divergence.
    """
    top_expected, top_actual = ranking(expected)[:, 0], ranking(actual)[:, 0]
    right_expected, right_actual = top_expected == labels, top_actual == labels
    p = np.maximum(expected.astype(np.float64), _LEAST_PROBABILITY)
    q = np.maximum(actual.astype(np.float64), _LEAST_PROBABILITY)
    divergence = float((p * np.log(p / q)).sum(axis=1).mean())
    return Comparison(
        against=against,
        agreement=proportion(int((top_expected == top_actual).sum()), len(labels)),
        kl_nats=max(0.0, divergence),
        lost=int((right_expected & ~right_actual).sum()),
        won=int((right_actual & ~right_expected).sum()),
    )


def evaluate(
    candidates: Mapping[str, Candidate],
    images: Sequence[LabelledImage],
    crop: Crop,
    dataset_name: str,
    *,
    allow_seen: bool = False,
    delegate: Delegate = Delegate.XNNPACK,
    progress: Progress = silent,
) -> dict[str, Evaluation]:
    """Evaluate candidates on the same images, each but `fp32` against `fp32` if that is among them.

    `allow_seen` takes images too that a candidate was trained or calibrated on, and counts them.

    Raises:
        DatasetError: there are no images, one can't be decoded, or a candidate has seen some.
        BundleError, SelfTestError: a candidate can't be loaded.
    """
    seen = _count_seen(candidates, images, allow_seen=allow_seen)
    dataset = image_set(dataset_name, (image.sha256 for image in images))
    labels = np.array([image.index for image in images], np.intp)
    answers = {
        name: answer(Classifier(candidate.bundle, candidate.variant, delegate), images, crop, progress)
        for name, candidate in candidates.items()
    }
    return {
        name: Evaluation(
            dataset=dataset,
            crop=crop.value,
            seen_images=seen,
            top1=_hits(probabilities, labels, 1),
            top5=_hits(probabilities, labels, 5),
            comparison=compare(BASELINE, answers[BASELINE], probabilities, labels)
            if BASELINE in answers and name != BASELINE
            else None,
        )
        for name, probabilities in answers.items()
    }


def _hits(probabilities: NDArray[np.float32], labels: NDArray[np.intp], k: int) -> Proportion:
    hits = ranking(probabilities)[:, :k] == labels[:, np.newaxis]
    return proportion(int(hits.sum()), len(labels))


def _count_seen(
    candidates: Mapping[str, Candidate], images: Sequence[LabelledImage], *, allow_seen: bool
) -> int:
    if not images:
        raise DatasetError("there are no images to evaluate on")
    known = frozenset().union(*(candidate.bundle.seen_images for candidate in candidates.values()))
    seen = [image.path for image in images if image.sha256[:SEEN_DIGITS] in known]
    if seen and not allow_seen:
        raise DatasetError(
            f"{len(seen)} of the {len(images)} images are among those that the network was trained or"
            f" calibrated on, the first {seen[0]}: accuracy on them says nothing of new images"
        )
    return len(seen)
