"""The population stability index: how far answers are from those of a bundle's reference.

Of two samples of one distribution, of n and m answers in b bins, it is about (b - 1) · (1/n + 1/m):
noise that only few bins keep low. So there are 10, and fewer where the reference has not enough images.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from service.bundle.reference import QUANTILES, Answers

MOST_BINS = 10
# Of the reference's images, in each bin.
_LEAST_IMAGES = 30
# Answers that are added to each bin, so that an empty one has a share.
_SMOOTHING = 0.5


@dataclass(frozen=True)
class ClassBins:
    """Bins of top-1 classes: `of` has the bin of each class, by its index.

    Each is a run of neighbours in index order with about as many of the reference's answers as the
    others. So classes that the reference never saw belong to one too, and where the order of classes has
    a meaning, as that of WordNet's ids, what is alike stays together.
    """

    of: tuple[int, ...]
    expected: tuple[float, ...]


@dataclass(frozen=True)
class ConfidenceBins:
    """Bins of the top-1 probability: bin i is from `edges[i - 1]` on, and below `edges[i]`."""

    edges: tuple[float, ...]
    expected: tuple[float, ...]

    def of(self, confidence: float) -> int:
        """The bin of a top-1 probability."""
        return bisect_right(self.edges, confidence)


def bins_of(answers: Answers) -> tuple[ClassBins, ConfidenceBins] | None:
    """Bins of a reference's answers; None where its images are too few to tell anything."""
    bins = min(MOST_BINS, sum(answers.top1) // _LEAST_IMAGES)
    if bins < 2:
        return None
    return _class_bins(answers.top1, bins), _confidence_bins(answers, bins)


def stability_index(expected: Sequence[float], actual: Sequence[float]) -> float:
    """The index of two counts by bin, of any totals: 0 where the shares are the same, else more."""
    pairs = zip(_shares(expected), _shares(actual), strict=True)
    return math.fsum((q - p) * math.log(q / p) for p, q in pairs)


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts) + _SMOOTHING * len(counts)
    return [(count + _SMOOTHING) / total for count in counts]


def _class_bins(top1: Sequence[int], bins: int) -> ClassBins:
    total = sum(top1)
    middles = [until - count / 2 for until, count in zip(accumulate(top1), top1, strict=True)]
    coarse = [min(bins - 1, int(middle * bins / total)) for middle in middles]
    # A class that has more than a bin's share leaves bins beside it empty.
    numbers = {bin_: number for number, bin_ in enumerate(sorted(set(coarse)))}
    of = tuple(numbers[bin_] for bin_ in coarse)
    expected = [0.0] * len(numbers)
    for bin_, count in zip(of, top1, strict=True):
        expected[bin_] += count
    return ClassBins(of, tuple(expected))


def _confidence_bins(answers: Answers, bins: int) -> ConfidenceBins:
    quantiles = answers.confidence
    steps = QUANTILES - 1
    edges = sorted({quantiles[round(steps * i / bins)] for i in range(1, bins)})
    # Many answers may have the very probability of an edge, as those of int8 do: they are above it.
    below = [bisect_left(quantiles, edge) / steps for edge in edges]
    total = sum(answers.top1)
    return ConfidenceBins(tuple(edges), tuple(total * (high - low) for low, high in pairwise([0, *below, 1])))
