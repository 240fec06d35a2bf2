"""Measures variants' accuracy on labelled images, with the same classifier that serves."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from service.bundle.folder import SEEN_DIGITS, Bundle
from service.bundle.manifest import Comparison, Evaluation, Proportion
from service.errors import DatasetError, RequestError
from service.images.pixels import DEFAULT_LIMITS, Crop, DecodeLimits
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate
from service.inference.divergence import kl_nats
from service.inference.loading import load_variant
from service.inference.runtime import RUNTIME
from service.measuring.labelled import LabelledImage, image_set
from service.results.wilson import wilson_95

# Wraps the iteration over images, to show progress: takes them and a description of the work.
Progress = Callable[[Sequence[LabelledImage], str], Iterable[LabelledImage]]

# The packages that decode image files.
_DECODERS = ("pillow", "simplejpeg")
_ECE_BINS = 15
# How many of the images that can't be classified are named.
_NAMED = 3


@dataclass(frozen=True)
class Candidate:
    """A variant to evaluate, and its bundle."""

    bundle: Bundle
    variant: str


@dataclass(frozen=True, eq=False)
class Measured:
    """The `evaluations` of candidates by name, and the answers that they summarize.

    `probabilities`: float32[images, classes] for each candidate, in the order of the images.
    """

    evaluations: dict[str, Evaluation]
    probabilities: dict[str, NDArray[np.float32]]


def silent(images: Sequence[LabelledImage], _what: str) -> Iterable[LabelledImage]:
    """Show nothing; a `Progress`."""
    return images


def proportion(count: int, total: int) -> Proportion:
    """Return `count` out of `total` (at least 1), with the 95 % Wilson interval."""
    lower, upper = wilson_95(count, total)
    return Proportion(count=count, ratio=count / total, lower=lower, upper=upper)


def hits(probabilities: NDArray[np.float32], labels: NDArray[np.intp], k: int) -> Proportion:
    """Return the share of images whose true class is among the `k` most probable.

    `probabilities`: float32[images, classes]; `labels`: the true indices [images].
    """
    ranks = map(_rank, probabilities, labels)
    return proportion(sum(rank < k for rank in ranks), len(labels))


def answer(
    classifier: Classifier, images: Sequence[LabelledImage], crop: Crop, progress: Progress = silent
) -> NDArray[np.float32]:
    """Classify images; return the probabilities, float32[images, classes].

    Raises:
        DatasetError: some images can't be read or decoded, or have no answer; raised after all were tried.
    """
    answers = np.empty((len(images), classifier.bundle.manifest.classes), np.float32)
    failed: list[str] = []
    for row, image in zip(answers, progress(images, classifier.variant), strict=True):
        try:
            row[:] = classifier.classify(image.path.read_bytes(), crop).probabilities
        except RequestError as error:
            failed.append(f"{image.path}: {error}")
        except OSError as error:
            failed.append(f"{image.path} can't be read: {error.strerror}")
    if failed:
        first = "; ".join(failed[:_NAMED])
        raise DatasetError(f"{len(failed)} of {len(images)} images can't be classified, first {first}")
    return answers


def compare(
    against: str,
    expected: NDArray[np.float32],
    actual: NDArray[np.float32],
    labels: NDArray[np.intp],
) -> Comparison:
    """Compare two variants' probabilities for the same images.

    `expected`, the probabilities of `against`, and `actual` are float32[images, classes]; `labels` are the
    true indices [images]. A probability below 1e-12 counts as 1e-12 in the divergence. With a single
    image, the standard error of the divergence is unknown.
    """
    # One image at a time: of all at once, the divergence would need several times the memory of the answers.
    apart = np.array([float(kl_nats(*pair)) for pair in zip(expected, actual, strict=True)])
    top_expected, top_actual = expected.argmax(axis=1), actual.argmax(axis=1)
    right_expected, right_actual = top_expected == labels, top_actual == labels
    return Comparison(
        against=against,
        agreement=proportion(int((top_expected == top_actual).sum()), len(labels)),
        kl_nats=max(0.0, float(apart.mean())),
        kl_nats_error=float(apart.std(ddof=1) / np.sqrt(len(apart))) if len(apart) > 1 else None,
        lost=int((right_expected & ~right_actual).sum()),
        won=int((right_actual & ~right_expected).sum()),
    )


def expected_calibration_error(probabilities: NDArray[np.float32], labels: NDArray[np.intp]) -> float:
    """Return how far the top-1 probability is from the share of right answers: a ratio, 0 if they are equal.

    `probabilities`: float32[images, classes]; `labels`: the true indices [images]. It is the mean over 15
    bins of equal width, weighted by images: Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    # Bins include their upper edge but not the lower one, as in the paper. The edges are float32 like the
    # probabilities, of which 8-bit models give some exactly at an edge: 0.4, as float32, is above 6/15.
    edges = (np.arange(1, _ECE_BINS) / _ECE_BINS).astype(np.float32)
    bins = edges.searchsorted(confidence)
    gaps = np.bincount(bins, confidence.astype(np.float64) - right, _ECE_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def evaluate(
    candidates: Mapping[str, Candidate],
    images: Sequence[LabelledImage],
    crop: Crop,
    dataset_name: str,
    *,
    allow_seen: bool = False,
    delegate: Delegate = Delegate.XNNPACK,
    limits: DecodeLimits = DEFAULT_LIMITS,
    progress: Progress = silent,
) -> Measured:
    """Evaluate candidates on the same images, and compare each with every other.

    `allow_seen` also accepts images that a candidate was trained or calibrated on, and counts them for each.

    Raises:
        DatasetError: there are none, some can't be decoded within `limits`, or a candidate has seen some.
        BundleError, OperatorError, DelegateError, SelfTestError: a candidate can't be loaded.
    """
    seen = count_seen(candidates, images, allow_seen=allow_seen)
    dataset = image_set(dataset_name, (image.sha256 for image in images))
    labels = np.array([image.index for image in images], np.intp)
    probabilities: dict[str, NDArray[np.float32]] = {}
    for name, candidate in candidates.items():
        loaded = load_variant(candidate.bundle, candidate.variant, delegate, limits=limits)
        probabilities[name] = answer(loaded.classifiers[0], images, crop, progress)
    evaluations = {
        name: Evaluation(
            dataset=dataset,
            crop=crop.value,
            seen_images=seen[name],
            runtime=RUNTIME,
            delegate=str(delegate),
            tools={tool: version(tool) for tool in _DECODERS},
            top1=hits(answers, labels, 1),
            top5=hits(answers, labels, 5),
            ece=expected_calibration_error(answers, labels),
            comparisons=tuple(
                compare(other, probabilities[other], answers, labels)
                for other in probabilities
                if other != name
            ),
        )
        for name, answers in probabilities.items()
    }
    return Measured(evaluations, probabilities)


def count_seen(
    candidates: Mapping[str, Candidate], images: Sequence[LabelledImage], *, allow_seen: bool
) -> dict[str, int]:
    """Return how many of the images each candidate was trained or calibrated on.

    Raises:
        DatasetError: there are no images, or some of them were and `allow_seen` is not set.
    """
    if not images:
        raise DatasetError("there are no images to evaluate on")
    known = frozenset().union(*(candidate.bundle.seen_images for candidate in candidates.values()))
    seen = [image.path for image in images if image.sha256[:SEEN_DIGITS] in known]
    if seen and not allow_seen:
        raise DatasetError(
            f"{len(seen)} of the {len(images)} images are among those that the network was trained or"
            f" calibrated on, the first {seen[0]}: accuracy on them says nothing about new images"
        )
    return {
        name: sum(image.sha256[:SEEN_DIGITS] in candidate.bundle.seen_images for image in images)
        for name, candidate in candidates.items()
    }


def _rank(probabilities: NDArray[np.float32], label: int) -> int:
    """Return how many classes come before the true one: more probable, or equal and of lower index."""
    own = probabilities[label]
    return int((probabilities > own).sum() + (probabilities[:label] == own).sum())
