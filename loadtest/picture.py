"""Plots of a load test and of a search for the capacity, as PNG."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from loadtest.timeline import Point

_DPI = 120


def draw_run(path: Path, points: Sequence[Point], p99_goal: float) -> None:
    """Plot the median and 99th percentile of latency, and the rate of answers, over time."""
    figure = Figure(figsize=(9, 5), layout="constrained", dpi=_DPI)
    latency, rate = figure.subplots(2, 1, sharex=True)
    for percent in (50, 99):
        # Where nothing was answered, the line is interrupted.
        values = [1e3 * (point.latency.percentile(percent) or math.nan) for point in points]
        latency.plot([point.second for point in points], values, label=f"p{percent}", marker=".")
    latency.axhline(1e3 * p99_goal, color="0.5", linestyle="--", label="goal of p99")
    latency.set(ylabel="latency, ms", ylim=(0, None))
    latency.legend(loc="upper right", frameon=False)
    long = _long(points)
    rates = [len(point.latency) / point.seconds for point in long]
    rate.plot([point.second for point in long], rates, marker=".")
    rate.set(ylabel="answers/s", ylim=(0, None), xlabel="seconds since the start")
    for axes in (latency, rate):
        axes.grid(alpha=0.3)
    figure.savefig(path)


def _long(points: Sequence[Point]) -> list[Point]:
    """Leave out the first and the last point if they are so short that their rate is mostly chance."""
    longest = max((point.seconds for point in points), default=0)
    return [point for point in points if point.seconds >= longest / 2]


def draw_capacity(
    path: Path,
    steps: Mapping[str, Sequence[tuple[float, float | None, bool]]],
    capacities: Mapping[str, float | None],
    p99_goal: float,
) -> None:
    """Plot each variant's 99th percentile over the offered rate, with its capacity next to it.

    `steps`: rate, 99th percentile in seconds, whether all goals were met.
    """
    figure = Figure(figsize=(10, 4.5), layout="constrained", dpi=_DPI)
    curves, bars = figure.subplots(1, 2, width_ratios=(2, 1))
    for number, (variant, measured) in enumerate(steps.items()):
        known = sorted((rate, 1e3 * p99, held) for rate, p99, held in measured if p99 is not None)
        colour = f"C{number}"
        curves.plot([r for r, _, _ in known], [p for _, p, _ in known], color=colour, label=variant)
        for held, face in ((True, colour), (False, "white")):
            those = [(r, p) for r, p, h in known if h is held]
            curves.plot(
                [r for r, _ in those],
                [p for _, p in those],
                "o",
                color=colour,
                markerfacecolor=face,
            )
        bar = bars.bar(variant, capacities.get(variant) or 0, color=colour)
        bars.bar_label(bar, fmt="%.0f")
    curves.axhline(1e3 * p99_goal, color="0.5", linestyle="--", label="goal")
    curves.set(
        xlabel="requests/s offered",
        ylabel="p99, ms (hollow: a goal was missed)",
        yscale="log",
        xlim=(0, None),
    )
    curves.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    curves.yaxis.set_major_formatter(ScalarFormatter())
    curves.yaxis.set_minor_formatter(NullFormatter())
    curves.grid(alpha=0.3)
    curves.legend(frameon=False)
    bars.set(ylabel="highest rate within all goals, requests/s")
    figure.savefig(path)
