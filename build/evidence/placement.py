"""Where points and their labels go in a picture, so that none covers another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

# Directions from a point, those that read best first: degrees, anticlockwise from the right.
_DIRECTIONS = (0, 180, 45, -45, 135, -135, 90, -90, 22, -22, 158, -158)
_FIRST_DISTANCE, _STEP, _DISTANCES = 11.0, 10.0, 12


@dataclass(frozen=True)
class Box:
    """An axis-aligned rectangle, in pixels, with y upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "Box") -> float:
        """Return the area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    def outside(self, area: "Box") -> float:
        """Return how much of this box's area is outside another."""
        return (self.right - self.left) * (self.top - self.bottom) - self.overlap(area)


def spread(places: Sequence[float], gap: float, widest: float = math.inf) -> list[float]:
    """Return places along an axis, moved as little as possible to be at least `gap` apart.

    Their order stays. The sum of the squared moves is minimal, by isotonic regression of place - rank × gap:
    neighbours that violate the order are pooled into their mean. A pool that would become wider than `widest`
    is compressed to that width, around its middle.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    pools: list[list[float]] = []
    for rank, i in enumerate(order):
        pools.append([places[i] - rank * gap])
        while len(pools) > 1 and fmean(pools[-2]) >= fmean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    moved = list(places)
    ranks = iter(enumerate(order))
    for pool in pools:
        own = list(islice(ranks, len(pool)))
        middle = fmean(rank for rank, _ in own)
        step = min(gap, widest / len(pool))
        for rank, i in own:
            moved[i] = fmean(pool) + middle * gap + (rank - middle) * step
    return moved


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    area: Box,
) -> list[Box]:
    """Return a box for the label of each point, in the order of the points; `sizes` are (width, height).

    Each label in turn is placed as near to its point as possible without covering an obstacle or an earlier
    label and without leaving the area. If that is impossible, it goes where it covers least.
    """
    placed: list[Box] = []
    for point, size in zip(points, sizes, strict=True):
        taken = [*obstacles, *placed]
        best, least = _boxes(point, size)[0], math.inf
        for box in _boxes(point, size):
            covered = sum(map(box.overlap, taken)) + box.outside(area)
            if covered < least:
                best, least = box, covered
        placed.append(best)
    return placed


def _boxes(point: tuple[float, float], size: tuple[float, float]) -> list[Box]:
    """Return where a label may go, nearest first: around its point, at growing distances."""
    (x, y), (width, height) = point, size
    boxes = []
    for number in range(_DISTANCES):
        distance = _FIRST_DISTANCE + number * _STEP
        for degrees in _DIRECTIONS:
            right, up = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            # The distance is to the side of the label that faces the point.
            left = x + distance * right + (right - 1) / 2 * width
            bottom = y + distance * up + (up - 1) / 2 * height
            boxes.append(Box(left, bottom, left + width, bottom + height))
    return boxes
