import re
from dataclasses import replace

import pytest

from loadtest.slo import Slo, judge
from loadtest.summary import summarize
from loadtest.tally import Tally

# The goals that the tally below meets.
MET = Slo(p50=1, p99=1, errors=1, late=1)


@pytest.fixture
def tally() -> Tally:
    """A hundred answers, of 1 to 100 ms, 80 of them right; two errors; 4 of 40 frames not in time."""
    tally = Tally()
    for number in range(100):
        tally.answered((number + 1) / 1e3, at=number / 10)
        tally.labelled("qat", number % 10, [1, 2, 3, 4, 5, 6], label=1 if number % 10 < 8 else 6)
    tally.errors["500"] = 2
    counts = tally.counts
    counts.requests, counts.frames, counts.late, counts.frames_refused, counts.dropped = 200, 40, 1, 1, 2
    return tally


@pytest.mark.parametrize(
    ("held", "missed", "line"),
    [
        (replace(MET, p50=0.051), replace(MET, p50=0.049), "p50: 50.* ms, the goal is at most 49 ms: FAILED"),
        (replace(MET, p99=0.1), replace(MET, p99=0.098), "p99: 9.* ms, the goal is at most 98 ms: FAILED"),
        (
            replace(MET, errors=0.01),
            replace(MET, errors=0.0099),
            "errors: 1 %, the goal is at most 0.99 %: FAILED",
        ),
        (
            replace(MET, late=0.1),
            replace(MET, late=0.09),
            "late, refused or dropped: 10 %, the goal is at most 9 %: FAILED",
        ),
        (replace(MET, top1=0.8), replace(MET, top1=0.81), "top1: 80 %, the goal is at least 81 %: FAILED"),
    ],
)
def test_a_goal_is_held_or_not(tally: Tally, held: Slo, missed: Slo, line: str) -> None:
    summary = summarize(tally, seconds=10)
    assert all(verdict.held for verdict in judge(held, summary))
    (verdict,) = [verdict for verdict in judge(missed, summary) if not verdict.held]
    assert re.fullmatch(line, verdict.line)


def test_without_answers_no_goal_of_them_is_held() -> None:
    verdicts = judge(Slo(p50=1, p99=1, errors=0, late=0, top1=0), summarize(Tally(), seconds=10))
    assert {verdict.name: verdict.held for verdict in verdicts} == {
        "p50": False,
        "p99": False,
        "errors": True,
        "top1": False,
    }
    assert "nothing was answered" in verdicts[0].line


def test_without_cameras_nothing_is_called_late_or_in_time(tally: Tally) -> None:
    tally.counts.frames = 0
    assert [verdict.name for verdict in judge(MET, summarize(tally, seconds=10))] == ["p50", "p99", "errors"]


def test_no_goal_no_verdict(tally: Tally) -> None:
    names = [verdict.name for verdict in judge(MET, summarize(tally, seconds=10))]
    assert names == ["p50", "p99", "errors", "late"]


def test_a_label_named_sixth_is_not_among_the_first_five(tally: Tally) -> None:
    overall = summarize(tally, seconds=10).overall
    assert overall is not None
    assert (overall.top1.ratio, overall.top5.ratio) == (0.8, 0.8)
