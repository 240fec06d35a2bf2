"""The report of a load test: a folder with Markdown, JSON, Locust's own page, and a plot."""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from loadtest import api
from loadtest.accuracy import Proportion
from loadtest.errors import LoadTestError
from loadtest.machine import machine, versions
from loadtest.markdown import milliseconds, percent, table
from loadtest.options import Plan
from loadtest.picture import draw_run
from loadtest.slo import LATE, Verdict, judge, judge_workers
from loadtest.summary import Summary
from loadtest.tally import Tally
from loadtest.timeline import Point, timeline

# Above this, the measured latency includes the load test's own slowness.
MOST_LAG_SECONDS = 0.02
_SETTINGS = ("spawn_rate", "run_time", "processes", "user_classes")


@dataclass
class RunReport:
    """The report of one load test.

    `started`: in seconds since the epoch; `lost`: how many of the `workers` at its start were lost.
    """

    options: argparse.Namespace
    host: str
    plan: Plan
    started: float
    tally: Tally
    summary: Summary
    interrupted: bool
    workers: int = 0
    lost: int = 0

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """One for each goal, and one if workers were lost."""
        return [*judge(self.plan.slo, self.summary), *judge_workers(self.lost, self.workers)]

    @cached_property
    def window(self) -> dict[str, dict[str, float]]:
        """The accuracy in the service's own window, from its metrics; empty if they can't be read."""
        try:
            return api.window_accuracy(self.host)
        except LoadTestError:
            return {}

    @cached_property
    def points(self) -> list[Point]:
        """The answers over time."""
        return timeline(self.tally, self.started, self.summary.seconds)

    @cached_property
    def text(self) -> str:
        """Tables and verdicts, in Markdown."""
        parts = [self._numbers(), self._accuracy(), self._errors(), self._verdicts(), *self._notes()]
        return "\n".join(part for part in parts if part)

    def write(self, folder: Path, html: str) -> None:
        """Write report.md, report.json, report.html and latency.png."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(self.json(), indent=1) + "\n")
        (folder / "report.html").write_text(html)
        draw_run(folder / "latency.png", self.points, self.plan.slo.p99)
        heading = f"# Load test of {self.host}\n\n{self._when()}\n\n"
        plot = "\n![Latency and rate over time](latency.png)\n"
        (folder / "report.md").write_text(heading + self.text + plot)

    def json(self) -> dict[str, Any]:
        """Return all results; times in seconds, shares as ratios."""
        summary = self.summary
        return {
            "host": self.host,
            "started": self._time(),
            "interrupted": self.interrupted,
            "seconds": summary.seconds,
            "rate": summary.rate,
            "latency_seconds": {f"p{percent:g}": value for percent, value in summary.latency.items()},
            "sent_late_p99_seconds": summary.lag,
            "counts": asdict(summary.counts),
            "errors": summary.errors,
            "error_ratio": summary.error_ratio,
            "late_ratio": summary.late_ratio,
            "accuracy": {
                name: {**asdict(one), "top1": asdict(one.top1), "top5": asdict(one.top5)}
                for name, one in summary.accuracy.items()
            },
            "window_accuracy": self.window,
            "workers": self.workers,
            "lost_workers": self.lost,
            "slo": [asdict(verdict) for verdict in self.verdicts],
            "settings": {
                "photos": str(self.plan.photos),
                "query": self.plan.query,
                "fps": self.plan.fps,
                "passes": self.plan.passes,
                "truths": self.plan.truths,
                "users": self.options.num_users,
                **{name: getattr(self.options, name, None) for name in _SETTINGS},
            },
            "machine": machine(),
            "versions": versions(),
            "points": [
                {
                    "second": point.second,
                    "seconds": point.seconds,
                    "answers": len(point.latency),
                    "p50": point.latency.percentile(50),
                    "p99": point.latency.percentile(99),
                }
                for point in self.points
            ],
        }

    def _time(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.started))

    def _when(self) -> str:
        of, tools = machine(), ", ".join(f"{name} {number}" for name, number in versions().items())
        return (
            f"Started {self._time()}; {self.summary.seconds:.0f} s with {self.options.num_users} users, from"
            f" a machine with {of['cores']} cores ({of['processor']}, {of['system']}), using {tools}."
        )

    def _numbers(self) -> str:
        summary, counts = self.summary, self.summary.counts
        head = ["answers/s", "p50 ms", "p99 ms", "answered", "errors", "refused", "frames", "late", "dropped"]
        row = [
            f"{summary.rate:.1f}",
            milliseconds(summary.latency[50]),
            milliseconds(summary.latency[99]),
            str(counts.answered),
            str(sum(summary.errors.values())),
            str(counts.refused),
            str(counts.frames),
            str(counts.late),
            str(counts.dropped),
        ]
        if counts.given_up:
            head.append("given up")
            row.append(str(counts.given_up))
        return table(head, [row])

    def _accuracy(self) -> str:
        head = ["live accuracy", "answers", "photos", "top-1 % (95 %)", "top-5 % (95 %)"]
        rows = [
            [name, str(one.answers), str(one.photos), percent(one.top1), percent(one.top5)]
            for name, one in self.summary.accuracy.items()
        ]
        rows += [
            [f"{name}, in the service's window", f"{of['labelled']:.0f}", "", _of(of, 1), _of(of, 5)]
            for name, of in self.window.items()
        ]
        return table(head, rows) if rows else ""

    def _errors(self) -> str:
        if not self.summary.errors:
            return ""
        return table(["errors", "number"], [[what, str(n)] for what, n in self.summary.errors.items()])

    def _verdicts(self) -> str:
        lines = [verdict.line for verdict in self.verdicts]
        if not self.summary.counts.frames:
            lines.append(f"{LATE}: not judged: no camera sent a frame")
        return "".join(f"- {line}\n" for line in lines)

    def _notes(self) -> list[str]:
        lag = self.summary.lag
        notes = []
        if self.interrupted:
            notes.append("Interrupted: these are the results until then.\n")
        if lag is not None and lag > MOST_LAG_SECONDS:
            notes.append(f"{lag_note(lag)}\n")
        return notes


def lag_note(lag: float) -> str:
    """Explain a lag above `MOST_LAG_SECONDS`."""
    return (
        f"One frame in a hundred was sent {milliseconds(lag)} ms late or more by the load test or its"
        " machine, which adds to its latency: use more --processes, or another machine."
    )


def progress_line(summary: Summary) -> str:
    """Return the numbers so far, in one line."""
    counts, overall = summary.counts, summary.overall
    return (
        f"{summary.seconds:5.0f} s  {summary.rate:6.1f} answers/s  p50 {milliseconds(summary.latency[50])} ms"
        f"  p99 {milliseconds(summary.latency[99])} ms  late {counts.late}/{counts.frames}"
        f"  refused {counts.refused}  dropped {counts.dropped}  errors {sum(summary.errors.values())}"
        f"  top-1 {f'{100 * overall.top1.ratio:.1f} %' if overall else '-'}"
    )


def _of(window: dict[str, float], k: int) -> str:
    names = [f"{name}_{k}" for name in ("ratio", "ratio_lower", "ratio_upper")]
    return percent(Proportion(*(window[name] for name in names))) if names[0] in window else ""
