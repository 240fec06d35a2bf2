"""The population stability index: how far answers are from those of a bundle's reference.

For two samples of one distribution, n and m answers in b bins, it is about (b - 1) · (1/n + 1/m):
noise that only few bins keep low. So there are 10, or fewer if the reference has too few images.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from service.bundle.reference import QUANTILES, Answers

MOST_BINS = 10
# The reference's images per bin.
_LEAST_IMAGES = 30
# Answers added to each bin, so that even an empty one has a share.
_SMOOTHING = 0.5


@dataclass(frozen=True)
class ClassBins:
    """Bins of top-1 classes: `of[index]` is the bin of that class.

    Each bin is a run of neighbours in index order, and all have about the same number of the reference's
    answers. So classes that the reference never saw have a bin too, and if the order of classes has a
    meaning, as with WordNet's ids, similar classes stay together.
    """

    of: tuple[int, ...]
    expected: tuple[float, ...]


@dataclass(frozen=True)
class ConfidenceBins:
    """Bins of the top-1 probability: bin i starts at `edges[i - 1]` and ends below `edges[i]`."""

    edges: tuple[float, ...]
    expected: tuple[float, ...]

    def of(self, confidence: float) -> int:
        """Return the bin of a top-1 probability."""
        return bisect_right(self.edges, confidence)


def bins_of(answers: Answers) -> tuple[ClassBins, ConfidenceBins] | None:
    """Return bins of a reference's answers, or None if it has too few images to be meaningful."""
    bins = min(MOST_BINS, sum(answers.top1) // _LEAST_IMAGES)
    if bins < 2:
        return None
    return _class_bins(answers.top1, bins), _confidence_bins(answers, bins)


def stability_index(expected: Sequence[float], actual: Sequence[float]) -> float:
    """Return the index of two counts by bin, with any totals: 0 if the shares are equal, else positive."""
    pairs = zip(_shares(expected), _shares(actual), strict=True)
    return math.fsum((q - p) * math.log(q / p) for p, q in pairs)


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts) + _SMOOTHING * len(counts)
    return [(count + _SMOOTHING) / total for count in counts]


def _class_bins(top1: Sequence[int], bins: int) -> ClassBins:
    total = sum(top1)
    middles = [until - count / 2 for until, count in zip(accumulate(top1), top1, strict=True)]
    coarse = [min(bins - 1, int(middle * bins / total)) for middle in middles]
    # A class that has more than a bin's share leaves neighbouring bins empty.
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
    # Many answers may have exactly an edge's probability, as int8 outputs do: they are above it.
    below = [bisect_left(quantiles, edge) / steps for edge in edges]
    total = sum(answers.top1)
    return ConfidenceBins(tuple(edges), tuple(total * (high - low) for low, high in pairwise([0, *below, 1])))
