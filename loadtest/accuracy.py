"""How many of the answers were right, and within which bounds that tells of other photos."""

import math
from dataclasses import dataclass

# The standard normal distribution's 97.5 % quantile.
_Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Proportion:
    """A share with its 95 % Wilson interval."""

    ratio: float
    lower: float
    upper: float


def wilson(ratio: float, trials: int) -> Proportion:
    """The interval of a share that so many (at least 1) independent trials gave."""
    spread = _Z_95**2 / trials
    centre = (ratio + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (ratio * (1 - ratio) + spread / 4)) / (1 + spread)
    return Proportion(ratio, max(0.0, min(centre - half, ratio)), min(1.0, max(centre + half, ratio)))


@dataclass(frozen=True)
class Accuracy:
    """Of the answers of one variant: how many, on how many different photos, and how many were right.

    The same photo gives the same answer again, so that the intervals go by the photos.
    """

    answers: int
    photos: int
    correct: int
    correct5: int

    @property
    def top1(self) -> Proportion:
        """The label is the answer's first class."""
        return wilson(self.correct / self.answers, self.photos)

    @property
    def top5(self) -> Proportion:
        """The label is among its first five."""
        return wilson(self.correct5 / self.answers, self.photos)
