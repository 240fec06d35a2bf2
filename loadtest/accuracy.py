"""Accuracy with confidence intervals: what the measured share says about other photos."""

import math
from dataclasses import dataclass

# The standard normal distribution's 97.5 % quantile.
_Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Proportion:
    """A proportion with its 95 % Wilson interval."""

    ratio: float
    lower: float
    upper: float


def wilson(ratio: float, trials: int) -> Proportion:
    """Return the interval of a proportion measured in `trials` (at least 1) independent trials."""
    spread = _Z_95**2 / trials
    centre = (ratio + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (ratio * (1 - ratio) + spread / 4)) / (1 + spread)
    return Proportion(ratio, max(0.0, min(centre - half, ratio)), min(1.0, max(centre + half, ratio)))


@dataclass(frozen=True)
class Accuracy:
    """The answers of one variant: how many, for how many different photos, and how many were right.

    The intervals are those of the number of photos, since repeating a photo repeats its answer.
    """

    answers: int
    photos: int
    correct: int
    correct5: int

    @property
    def top1(self) -> Proportion:
        """The share of answers whose first class is the label."""
        return wilson(self.correct / self.answers, self.photos)

    @property
    def top5(self) -> Proportion:
        """The share of answers with the label among the first five classes."""
        return wilson(self.correct5 / self.answers, self.photos)
