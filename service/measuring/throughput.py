"""Measures the inferences that workers do together: threads with a classifier each, as in the pool."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from service.inference.golden import read_golden_vectors

MEASURE_SECONDS = 2.0
# The fewest inferences per worker that are meaningful; on a slow device they take longer.
_LEAST = 10
# All numbers of workers up to this one are measured, then each is twice the one before.
_EVERY = 4


@dataclass(frozen=True)
class Done:
    """All workers' `inferences`, including the first of each, and the others' rate, `per_second`."""

    inferences: int
    per_second: float


def worker_counts(most: int) -> list[int]:
    """Return the numbers of workers to measure with: 1, 2, 3, 4, 8, 16… and `most`."""
    counts = [count for count in range(1, _EVERY) if count < most]
    count = _EVERY
    while count < most:
        counts.append(count)
        count *= 2
    return [*counts, most]


def measure_throughput(classifiers: Sequence[Classifier], seconds: float = MEASURE_SECONDS) -> Done:
    """Run every classifier on golden pixels in a thread of its own, for at least `seconds`."""
    first = classifiers[0]
    pixels = read_golden_vectors(first.bundle, first.variant).pixels
    with ThreadPoolExecutor(len(classifiers)) as threads:
        done = list(threads.map(lambda classifier: _work(classifier, pixels, seconds), classifiers))
    return Done(
        inferences=sum(count + 1 for count, _ in done),
        per_second=sum(count / taken for count, taken in done),
    )


def _work(classifier: Classifier, pixels: NDArray[np.uint8], seconds: float) -> tuple[int, float]:
    images = cycle(pixels)
    # Does not count: it finds the caches full of other data.
    classifier.probabilities(next(images))
    start = perf_counter()
    count, taken = 0, 0.0
    while taken < seconds or count < _LEAST:
        classifier.probabilities(next(images))
        count += 1
        taken = perf_counter() - start
    return count, taken
