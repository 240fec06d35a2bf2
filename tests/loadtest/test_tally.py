import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.accuracy import wilson
from loadtest.histogram import Histogram
from loadtest.summary import summarize
from loadtest.tally import Tally
from service.measuring.evaluation import proportion

SECONDS = st.lists(st.floats(1e-4, 60), min_size=1, max_size=200)


@given(SECONDS, st.sampled_from([1, 50, 90, 99, 100]))
def test_a_percentile_is_right_to_half_a_percent(seconds: list[float], percent: float) -> None:
    histogram = Histogram()
    for each in seconds:
        histogram.add(each)
    expected = np.percentile(seconds, percent, method="inverted_cdf")
    assert histogram.percentile(percent) == pytest.approx(expected, rel=0.00501)


def counted(answers: list[float], errors: int = 0) -> Tally:
    tally = Tally()
    for number, seconds in enumerate(answers):
        tally.answered(seconds, at=number)
        tally.labelled("qat", number % 7, [number % 3, 9], label=1)
        tally.counts.requests += 1
        tally.counts.frames += 1
    tally.errors["500"] += errors
    return tally


@given(SECONDS, SECONDS)
def test_what_processes_counted_adds_up(first: list[float], second: list[float]) -> None:
    alone = counted(first, errors=1)
    alone.merge(json_safe(counted(second)))
    together = counted(first + second, errors=1)
    assert alone.latency.buckets == together.latency.buckets
    assert alone.counts == together.counts
    assert alone.errors == together.errors
    assert alone.accuracy["qat"].answers == len(first) + len(second)


def json_safe(tally: Tally) -> dict[str, object]:
    """Its message, which is proved to be of plain values."""
    message = tally.message()
    json.dumps(message)
    return message


def test_after_forgetting_a_worker_sends_nothing_twice() -> None:
    master, worker = Tally(), counted([0.1, 0.2])
    for _ in range(2):
        master.merge(worker.message())
        worker.forget()
    assert master.counts.answered == 2
    assert master.accuracy["qat"].answers == 2


def test_a_long_test_has_no_more_points() -> None:
    tally = Tally()
    for second in range(5000):
        tally.answered(0.1, at=1_000_000 + second)
    assert len(tally.points) <= 600
    assert tally.seconds_a_point == 16
    assert len(tally.latency) == 5000


@given(st.integers(1, 1000), st.data())
def test_the_interval_is_that_of_evaluation(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    expected = proportion(count, total)
    measured = wilson(count / total, total)
    assert (measured.lower, measured.upper) == pytest.approx((expected.lower, expected.upper))


def test_the_same_photo_again_makes_the_interval_no_narrower() -> None:
    tally = Tally()
    for number in range(1000):
        for variant in ("qat", "ptq"):
            tally.labelled(variant, number % 4, [number % 4], label=1)
    once = wilson(0.25, 4)
    assert tally.accuracy["qat"].top1 == once
    overall = summarize(tally, 1).overall
    assert overall is not None
    assert overall.photos == 4
    assert overall.top1 == once
