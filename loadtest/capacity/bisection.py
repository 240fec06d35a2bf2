"""The search for the highest rate that holds."""

import math
from collections.abc import Callable

# The ratio of the lowest rate that does not hold to the highest that does, when a search ends.
PRECISION = 1.04
# The search gives up at this fraction of the start rate.
LEAST = 8


def highest(holds: Callable[[float], bool], start: float) -> float | None:
    """Return the highest rate that holds, to within `PRECISION`; None if not even an eighth of `start` does.

    Doubles the rate, or halves it, until it is between one that holds and one that does not; then bisects.
    """
    low = start
    if holds(low):
        while holds(high := 2 * low):
            low = high
    else:
        high, low = low, low / 2
        while not holds(low):
            high, low = low, low / 2
            if high <= start / LEAST:
                return None
    while high / low > PRECISION:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
