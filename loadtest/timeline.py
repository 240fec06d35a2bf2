"""The answers of a load test over time."""

import math
from dataclasses import dataclass

from loadtest.histogram import Histogram
from loadtest.tally import Tally


@dataclass(frozen=True)
class Point:
    """The answers of `seconds` of the test, from `second` seconds after its start."""

    second: float
    seconds: float
    latency: Histogram


def timeline(tally: Tally, started: float, seconds: float) -> list[Point]:
    """Return a point for each part of a test that took so many seconds, even if nothing was answered in it.

    A long test has longer parts, not more. `started`: in seconds since the epoch.
    """
    tally.fit_points(seconds)
    step, ended = tally.seconds_a_point, started + seconds
    first = int(started) - int(started) % step
    points = []
    # Answers from outside the test are those of a machine whose clock is wrong.
    for start in sorted({*range(first, math.ceil(ended), step), *tally.points}):
        begin, end = max(start, started), min(start + step, ended)
        if begin >= end:
            begin, end = start, start + step
        points.append(Point(begin - started, end - begin, tally.points.get(start, Histogram())))
    return points
