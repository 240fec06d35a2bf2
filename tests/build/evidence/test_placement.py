from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build.evidence.placement import Box, place_labels, spread

AREA = Box(0, 0, 600, 400)
places = st.lists(st.floats(0, 600), min_size=1, max_size=12)


@given(places, st.floats(0.5, 20))
def test_spread_places_have_the_minimum_gap_and_keep_their_order(
    given_places: list[float], gap: float
) -> None:
    moved = spread(given_places, gap)
    order = sorted(range(len(moved)), key=lambda i: given_places[i])
    assert all(moved[b] - moved[a] >= gap - 1e-6 for a, b in pairwise(order))
    assert np.mean(moved) == pytest.approx(np.mean(given_places), abs=1e-6)


@given(places)
def test_places_that_are_far_apart_do_not_move(given_places: list[float]) -> None:
    apart = [place + 700 * number for number, place in enumerate(given_places)]
    assert spread(apart, 90) == pytest.approx(apart)


def test_a_crowd_moves_its_neighbour_but_not_places_farther_away() -> None:
    assert spread([100, 100, 109, 300], 10) == pytest.approx([93, 103, 113, 300])


def test_a_crowd_is_no_wider_than_the_limit() -> None:
    assert spread([100, 100, 100, 300, 304], 10, 15) == pytest.approx([95, 100, 105, 298.25, 305.75])


@given(st.lists(st.tuples(st.floats(60, 540), st.floats(40, 360)), min_size=1, max_size=7))
def test_labels_cover_nothing_and_stay_inside(points: list[tuple[float, float]]) -> None:
    obstacles = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    boxes = place_labels(points, [(40, 14)] * len(points), obstacles, AREA)
    for i, box in enumerate(boxes):
        assert (box.right - box.left, box.top - box.bottom) == pytest.approx((40, 14))
        assert box.outside(AREA) == pytest.approx(0, abs=1e-6)
        assert all(box.overlap(obstacle) == 0 for obstacle in obstacles)
        assert all(box.overlap(other) == 0 for other in boxes[:i])


def test_a_lone_label_is_next_to_its_point() -> None:
    (box,) = place_labels([(300, 200)], [(40, 14)], [], AREA)
    assert (box.left, box.bottom) == pytest.approx((311, 193))


def test_at_the_right_edge_a_label_goes_to_the_left() -> None:
    (box,) = place_labels([(595, 200)], [(40, 14)], [], AREA)
    assert (box.right, box.bottom) == pytest.approx((584, 193))


def test_a_label_without_room_is_placed_over_an_obstacle() -> None:
    everything = Box(-1000, -1000, 1000, 1000)
    (box,) = place_labels([(300, 200)], [(40, 14)], [everything], AREA)
    assert box.overlap(everything) == pytest.approx(40 * 14)
