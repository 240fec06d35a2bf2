"""The report of a search: a folder with Markdown, JSON and a plot."""

import argparse
import json
from collections.abc import Set
from dataclasses import asdict

from loadtest.capacity.cores import Cores
from loadtest.capacity.search import Search
from loadtest.capacity.step import Step
from loadtest.machine import machine, versions
from loadtest.markdown import table
from loadtest.picture import draw_capacity
from loadtest.run_report import MOST_LAG_SECONDS, lag_note

_GOALS = ("p50", "p99", "errors", "late", "top1")


def write_capacity_report(search: Search, *, interrupted: bool) -> str:
    """Write report.md, report.json and capacity.png; return the table and its notes, in Markdown."""
    folder = search.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(_json(search, interrupted), indent=1) + "\n")
    _draw(search)
    text = _table(search) + f"\n{_where(search.options, search.cores)}\n" + _doubts(search)
    if interrupted:
        text += "Ended early: these are the results until then.\n"
    heading, picture = "# Capacity\n\n", "\n![p99 over the rate, and the capacities](capacity.png)\n"
    (folder / "report.md").write_text(heading + text + picture)
    return text


def _json(search: Search, interrupted: bool) -> dict[str, object]:
    options = search.options
    goals = {f"slo_{name}": getattr(options, f"slo_{name}") for name in _GOALS}
    return {
        "host": options.host,
        "interrupted": interrupted,
        "capacity": search.found,
        "steps": [asdict(step) for step in search.steps],
        "settings": {**goals, "fps": options.fps, "step_seconds": options.step_seconds},
        "service_cores": sorted(search.cores.service),
        "load_cores": sorted(search.cores.load),
        "machine": machine(),
        "versions": versions(),
    }


def _draw(search: Search) -> None:
    by_variant: dict[str, dict[float, Step]] = {}
    for step in search.steps:
        # Of a rate that was tried twice, the second try counts.
        by_variant.setdefault(step.variant, {})[step.rate] = step
    drawn = {
        variant: [(step.rate, step.p99, step.held) for step in steps.values()]
        for variant, steps in by_variant.items()
    }
    draw_capacity(search.folder / "capacity.png", drawn, search.found, search.options.slo_p99 / 1e3)


def _table(search: Search) -> str:
    first = next(iter(search.found.values()), None)
    rows = []
    for variant, rate in search.found.items():
        step = next((s for s in reversed(search.steps) if s.variant == variant and s.rate == rate), None)
        ratio = f"{rate / first:.2f} ×" if rate and first else ""
        at = [f"{step.answered:.1f}", f"{1e3 * (step.p99 or 0):.1f}"] if step else ["", ""]
        rows.append([variant, f"{rate:.1f}" if rate else "none", ratio, *at])
    first_name = next(iter(search.found), "the first")
    head = [
        "variant",
        "requests/s within all goals",
        f"of {first_name}",
        "answers/s there",
        "p99 ms there",
    ]
    return table(head, rows)


def _doubts(search: Search) -> str:
    """A line for each variant whose search may have been ended by the load test, not by the service."""
    lines = []
    for variant, found in search.found.items():
        above = [s for s in search.steps if s.variant == variant and s.rate > (found or 0) and not s.held]
        # The last try at the lowest rate that did not hold.
        step = min(reversed(above), key=lambda step: step.rate)
        lag = step.sent_late_p99_seconds
        if lag is not None and lag > MOST_LAG_SECONDS:
            lines.append(
                f"{variant}: at {step.rate:.1f}/s the load test, not the service, may have ended the"
                f" search. {lag_note(lag)}\n"
            )
    return "".join(lines)


def _where(options: argparse.Namespace, cores: Cores) -> str:
    top1 = "" if options.slo_top1 is None else f", top-1 ≥ {options.slo_top1:g}"
    goals = (
        f"Goals: p50 ≤ {options.slo_p50:g} ms, p99 ≤ {options.slo_p99:g} ms,"
        f" errors ≤ {options.slo_errors:g}, late ≤ {options.slo_late:g}{top1}; steps of"
        f" {options.step_seconds} s, cameras of {options.fps:g} frames/s."
    )
    if options.host is not None:
        return f"{goals} The service is {options.host}."
    if cores.are_shared:
        return f"{goals} Service and load shared the machine's only core, so the load slowed the service."
    return (
        f"{goals} The service had core {_names(cores.service)} of this machine to itself, the load"
        f" core {_names(cores.load)}."
    )


def _names(cores: Set[int]) -> str:
    return ", ".join(map(str, sorted(cores)))
