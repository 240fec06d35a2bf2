import pytest

from loadtest.tally import Tally
from loadtest.timeline import timeline

STARTED = 1_000_000.25


def tally_of(*times: float) -> Tally:
    tally = Tally()
    for time in times:
        tally.answered(0.1, at=time)
    return tally


def test_seconds_without_an_answer_have_a_point() -> None:
    points = timeline(tally_of(1_000_000.5, 1_000_003.1), STARTED, 5.0)
    assert [len(point.latency) for point in points] == [1, 0, 0, 1, 0, 0]


def test_a_point_takes_only_the_part_of_its_second_that_is_in_the_test() -> None:
    points = timeline(tally_of(1_000_000.5), STARTED, 2.0)
    assert [point.second for point in points] == [0, 0.75, 1.75]
    assert [point.seconds for point in points] == [0.75, 1, 0.25]


def test_a_long_test_without_answers_at_its_end_has_points_of_equal_length() -> None:
    tally = tally_of(*range(1_000_000, 1_001_000))
    points = timeline(tally, STARTED, 2000.0)
    assert {point.seconds for point in points[1:-1]} == {tally.seconds_a_point} == {4}
    assert sum(point.seconds for point in points) == pytest.approx(2000)
    assert sum(len(point.latency) for point in points) == 1000


def test_a_test_whose_service_died_early_has_no_more_points() -> None:
    points = timeline(tally_of(*range(1_000_000, 1_000_500)), STARTED, 86_400.0)
    assert len(points) <= 602
    assert sum(len(point.latency) for point in points) == 500


def test_an_answer_by_another_clock_adds_one_point() -> None:
    points = timeline(tally_of(0.5, 1_000_000.5), STARTED, 1.0)
    assert [len(point.latency) for point in points] == [1, 1, 0]
    assert all(point.seconds > 0 for point in points)
