"""Histograms of times: percentiles accurate to half a percent, and mergeable across processes."""

import math
from collections import Counter
from collections.abc import Mapping

_WIDTH = math.log(1.01)
_LEAST_SECONDS = 1e-5


class Histogram:
    """The number of times in each bucket, on a logarithmic scale."""

    def __init__(self, buckets: Mapping[int, int] | None = None) -> None:
        self.buckets: Counter[int] = Counter(buckets or {})

    def add(self, seconds: float) -> None:
        """Count one time."""
        self.buckets[round(math.log(max(seconds, _LEAST_SECONDS)) / _WIDTH)] += 1

    def merge(self, other: "Histogram") -> None:
        """Add the counts of another histogram."""
        self.buckets.update(other.buckets)

    def __len__(self) -> int:
        return self.buckets.total()

    def percentile(self, percent: float) -> float | None:
        """Return the time in seconds that `percent` of all do not exceed; None if there are none."""
        left = math.ceil(len(self) * percent / 100)
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return math.exp(bucket * _WIDTH)
        return None
