"""Accuracy of variants on labelled images, through the very classifier that serves."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle
from service.errors import DatasetError, RequestError
from service.inference.classifier import Classifier, ranking
from service.inference.delegates import Delegate
from service.inference.image import Crop
from service.inference.labelled import LabelledImage, image_set
from service.manifest import Comparison, Evaluation, ImageSet, Proportion

BASELINE = "fp32"

# Wraps the images as they are gone through, to show how far it is: takes them and what is done.
Progress = Callable[[Sequence[LabelledImage], str], Iterable[LabelledImage]]

_Z_95 = 1.959963984540054
# A quantized softmax can say 0, which would make a divergence infinite.
_LEAST_PROBABILITY = 1e-12


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
    bundle: Bundle,
    variants: Sequence[str],
    images: Sequence[LabelledImage],
    crop: Crop,
    dataset_name: str,
    *,
    allow_seen: bool = False,
    delegate: Delegate = Delegate.XNNPACK,
    progress: Progress = silent,
) -> dict[str, Evaluation]:
    """Evaluate variants on the same images, each but `fp32` against `fp32` where that is among them.

    `allow_seen` takes images that the network was trained or calibrated on too, and counts them.

    Raises:
        DatasetError: there are no images, one can't be decoded, or the network has seen some.
        BundleError, SelfTestError: a variant can't be loaded.
    """
    seen = _count_seen(bundle, images, allow_seen=allow_seen)
    dataset = image_set(dataset_name, (image.sha256 for image in images))
    labels = np.array([image.index for image in images], np.intp)
    answers = {name: answer(Classifier(bundle, name, delegate), images, crop, progress) for name in variants}
    baseline = answers.get(BASELINE)
    return {
        name: _evaluation(
            dataset,
            crop,
            seen,
            probabilities,
            labels,
            compare(BASELINE, baseline, probabilities, labels)
            if baseline is not None and name != BASELINE
            else None,
        )
        for name, probabilities in answers.items()
    }


def _evaluation(
    dataset: ImageSet,
    crop: Crop,
    seen: int,
    probabilities: NDArray[np.float32],
    labels: NDArray[np.intp],
    comparison: Comparison | None,
) -> Evaluation:
    ranks = ranking(probabilities)
    top1, top5 = (int((ranks[:, :k] == labels[:, np.newaxis]).sum()) for k in (1, 5))
    return Evaluation(
        dataset=dataset,
        crop=crop.value,
        seen_images=seen,
        top1=proportion(top1, len(labels)),
        top5=proportion(top5, len(labels)),
        comparison=comparison,
    )


def _count_seen(bundle: Bundle, images: Sequence[LabelledImage], *, allow_seen: bool) -> int:
    if not images:
        raise DatasetError("there are no images to evaluate on")
    seen = [image.path for image in images if image.sha256[:16] in bundle.seen_images]
    if seen and not allow_seen:
        raise DatasetError(
            f"{len(seen)} of the {len(images)} images are among those that the network was trained or"
            f" calibrated on, the first {seen[0]}: accuracy on them says nothing of new images"
        )
    return len(seen)
