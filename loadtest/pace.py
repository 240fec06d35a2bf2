"""When a camera's frames are due: at a fixed rate, whatever happens to the frames before."""

import math

# The fractional part of the golden ratio: any number of its multiples, modulo 1, are spread evenly.
_GOLDEN = (math.sqrt(5) - 1) / 2


def spread(number: int) -> float:
    """Return when in its period, from 0 to 1, the camera of this number takes its frames: no two at once."""
    return number * _GOLDEN % 1


class Pace:
    """The frames of one camera: the first is due at `first`, each next one `period` seconds later.

    Every frame is either taken or skipped, so that none is missing from the count.
    """

    def __init__(self, first: float, period: float) -> None:
        self.period = period
        self._first = first
        self._next = 0

    def take(self) -> float:
        """Return when the next frame is due, which may be in the past, and move on to the one after."""
        due = self._due(self._next)
        self._next += 1
        return due

    def skip(self, until: float) -> int:
        """Skip the frames that are due before that time; return how many there were."""
        skipped = 0
        while self._due(self._next) < until:
            self._next += 1
            skipped += 1
        return skipped

    def _due(self, frame: int) -> float:
        return self._first + frame * self.period
