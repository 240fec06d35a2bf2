"""When a camera's frames are due: at a fixed rate, whatever becomes of those before."""

import math

# The fractional part of the golden ratio: its multiples, modulo 1, are spread evenly for any number of them.
_GOLDEN = (math.sqrt(5) - 1) / 2


def spread(number: int) -> float:
    """When in the period, from 0 to 1, the camera of this number takes its frames: no two at once."""
    return number * _GOLDEN % 1


class Pace:
    """The frames of one camera, each due `period` seconds after the one before; the first at `first`.

    Every frame is either taken or skipped, so that none is lost from the count.
    """

    def __init__(self, first: float, period: float) -> None:
        self.period = period
        self._first = first
        self._next = 0

    def take(self) -> float:
        """When the next frame is due, which may be past; the one after is next then."""
        due = self._due(self._next)
        self._next += 1
        return due

    def skip(self, until: float) -> int:
        """Pass over the frames that are due before that time; how many there were."""
        skipped = 0
        while self._due(self._next) < until:
            self._next += 1
            skipped += 1
        return skipped

    def _due(self, frame: int) -> float:
        return self._first + frame * self.period
