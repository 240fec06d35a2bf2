"""The goals of a load test, and whether they were met."""

from collections.abc import Callable
from dataclasses import dataclass

from loadtest.summary import Summary

_Show = Callable[[float], str]
# What the goal of late frames is called for people: its name alone would leave out the others that count.
LATE = "late, refused or dropped"


@dataclass(frozen=True)
class Slo:
    """The goals.

    `p50`, `p99`: at most, in seconds; `errors`, `late`: ratios, at most; `top1`: a ratio, at least; None: no
    such goal.
    """

    p50: float
    p99: float
    errors: float
    late: float
    top1: float | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether one goal was met; `line` says so to the user."""

    name: str
    goal: float
    measured: float | None
    held: bool
    line: str


def judge(slo: Slo, summary: Summary) -> list[Verdict]:
    """Return a verdict on each goal.

    A goal that could not be measured, because nothing was answered, is missed. If no camera sent a
    frame, there is no verdict on late ones.
    """
    verdicts = [
        _at_most("p50", slo.p50, summary.latency[50], _milliseconds),
        _at_most("p99", slo.p99, summary.latency[99], _milliseconds),
        _at_most("errors", slo.errors, summary.error_ratio, _percent),
    ]
    if summary.counts.frames:
        verdicts.append(_at_most("late", slo.late, summary.late_ratio, _percent, label=LATE))
    if slo.top1 is not None:
        overall = summary.overall
        verdicts.append(_at_least("top1", slo.top1, overall.top1.ratio if overall else None))
    return verdicts


def judge_workers(lost: int, workers: int) -> list[Verdict]:
    """Return a failing verdict if some of the workers, and with them their share of the load, were lost."""
    line = f"workers: {lost} of {workers} load workers were lost, with their share of the load: FAILED"
    return [Verdict("workers", 0, lost, held=False, line=line)] if lost else []


def _at_most(name: str, goal: float, measured: float | None, show: _Show, label: str = "") -> Verdict:
    held = measured is not None and measured <= goal
    return Verdict(name, goal, measured, held, _line(label or name, held, measured, goal, "at most", show))


def _at_least(name: str, goal: float, measured: float | None) -> Verdict:
    held = measured is not None and measured >= goal
    return Verdict(name, goal, measured, held, _line(name, held, measured, goal, "at least", _percent))


def _line(label: str, held: bool, measured: float | None, goal: float, bound: str, show: _Show) -> str:
    value = "unknown: nothing was answered" if measured is None else show(measured)
    return f"{label}: {value}, the goal is {bound} {show(goal)}: {'held' if held else 'FAILED'}"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.4g} ms"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.4g} %"
