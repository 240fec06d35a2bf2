"""The highest rate at which a service holds its goals, for each variant: `python -m loadtest capacity`."""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtest import api
from loadtest.errors import LoadTestError
from loadtest.locusts import QUIET, REPORT, make_folder, new_folder, own_options, run_test
from loadtest.options import add_options, key_header, positive, read_secret
from loadtest.picture import draw_capacity
from loadtest.report import MOST_LAG_SECONDS, lag_note, machine, table, versions
from loadtest.service import serving
from loadtest.status import FAILED, HELD, INTERRUPTED, UNUSABLE

# The highest rate that holds is told from the lowest that does not this well.
PRECISION = 1.04
_LEAST = 8
_DAY = 86_400
# More than any machine makes.
_MOST_RATE = 100_000
# A load test that makes fewer of a step's frames says nothing of the service.
_OFFERED = 0.9
_CLIENTS = frozenset({"App", "Camera", "Inspector"})
_INSTEAD = {
    "--passes": "leave it out: each step has its time (--step-seconds)",
    "--users": "take --start-rate, and --fps",
    "--run-time": "take --step-seconds",
    "--spawn-rate": "leave it out: all cameras of a step start at once",
}


@dataclass(frozen=True)
class Step:
    """One rate that was tried, in requests/s; `p99` in seconds; `missed`: the goals that were not held.

    `sent_late_p99_seconds`: how late the load test sent what was due, None where it never waited for it.
    """

    variant: str
    rate: float
    answered: float
    p99: float | None
    late_ratio: float
    sent_late_p99_seconds: float | None
    missed: tuple[str, ...]

    @property
    def held(self) -> bool:
        """Whether all goals were."""
        return not self.missed

    @property
    def line(self) -> str:
        """What came of it."""
        lag = self.sent_late_p99_seconds
        sent = "" if lag is None else f" (sent late p99 {1e3 * lag:.1f} ms)"
        return f"{self.variant}: {self.rate:.1f}/s: {'; '.join(self.missed) or 'held'}{sent}"


class _Interrupted(Exception):
    """A signal ended a step."""


def highest(holds: Callable[[float], bool], start: float) -> float | None:
    """The highest rate that holds, to within `PRECISION`; None where not even an eighth of the start does.

    Doubles the rate, or halves it, until it is between one that holds and one that does not; then bisects.
    """
    low = start
    if holds(low):
        while holds(high := 2 * low):
            low = high
    else:
        high, low = low, low / 2
        while not holds(low):
            high, low = low, low / 2
            if high <= start / _LEAST:
                return None
    while high / low > PRECISION:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def capacity(arguments: Sequence[str]) -> int:
    """Search for each variant; print the table and write the report. Returns the exit status.

    Raises:
        LoadTestError: it can't begin.
    """
    own = _own_options()
    options, _ = _parser(own).parse_known_args(arguments)
    _, others = own.parse_known_args(arguments)
    for name in _CLIENTS.intersection(others):
        raise LoadTestError(f"{name} can't be chosen: a search for the capacity loads by cameras alone")
    folder = Path(options.report or new_folder("capacity"))
    make_folder(folder)
    search = _Search(options, others, folder)
    status = HELD
    try:
        with search.switched_back():
            for variant in options.variants:
                with search.host_of(variant) as host:
                    search.run(variant, host)
    except (_Interrupted, KeyboardInterrupt):
        status = INTERRUPTED
    except LoadTestError:
        if search.steps:
            # What was found for the variants before took minutes.
            sys.stdout.write(f"{search.write(interrupted=True)}\nThe whole report is in {folder}.\n")
        raise
    text = search.write(interrupted=status == INTERRUPTED)
    sys.stdout.write(f"{text}\nThe whole report is in {folder}.\n")
    if status == HELD and None in search.found.values():
        status = FAILED
    return status


class _Search:
    """What was tried and found so far."""

    def __init__(self, options: argparse.Namespace, others: Sequence[str], folder: Path) -> None:
        self.options = options
        self.others = others
        self.folder = folder
        self.steps: list[Step] = []
        self.found: dict[str, float | None] = {}
        self.service_cores, self.load_cores = _cores() if options.host is None else (set(), set())

    @contextmanager
    def host_of(self, variant: str) -> Iterator[str]:
        """The URL of a service where this variant answers."""
        host = self.options.host
        if host is None:
            with serving(self.options.python, {"EDGEWISE_VARIANT": variant}, self.service_cores) as local:
                self._check_known(local)
                yield local
            return
        if self._check_known(host) != variant:
            self._switch(variant)
        yield host

    @contextmanager
    def switched_back(self) -> Iterator[None]:
        """In the end the variant answers that did before, where the service is not one's own.

        Raises:
            LoadTestError: a variant is unknown, or it can't be switched; told before any is loaded.
        """
        if self.options.host is None:
            yield
            return
        before = self._check_known(self.options.host)
        if self.options.variants != [before]:
            self._switch(before)  # Which changes nothing, but proves the token.
        try:
            yield
        finally:
            if self.options.variants != [before]:
                self._switch_back(before)

    def _check_known(self, host: str) -> str:
        """The active variant of a service that has all those that are to be searched."""
        listed = api.variants(host, key_header(self.options.api_key_file))
        names = [each["name"] for each in listed["variants"]]
        for variant in self.options.variants:
            if variant not in names:
                raise LoadTestError(f"the service has no variant {variant!r}; it has {', '.join(names)}")
        return str(listed["active"])

    def _switch(self, variant: str) -> None:
        host, file = self.options.host, self.options.admin_token_file
        if not file:
            raise LoadTestError(
                f"{host} answers by one variant at a time: to switch it, name its admin token by"
                " --admin-token-file, or name the one that is active by --variants"
            )
        api.switch(host, variant, read_secret(file))

    def _switch_back(self, variant: str) -> None:
        try:
            self._switch(variant)
        except LoadTestError as error:
            sys.stderr.write(f"edgewise: {variant}, active before, could not be switched back to: {error}\n")

    def run(self, variant: str, host: str) -> None:
        """Search this variant's capacity."""

        def holds(rate: float) -> bool:
            # What disturbs a step once does not do so twice.
            name = f"{rate:07.2f}"
            return self._try(variant, host, rate, name) or self._try(variant, host, rate, f"{name}-again")

        self.found[variant] = highest(holds, self.options.start_rate)

    def _try(self, variant: str, host: str, rate: float, name: str) -> bool:
        place = self.folder / variant / name
        cameras = max(1, round(rate / self.options.fps))
        status = run_test(
            [
                *QUIET,
                "Camera",
                *self.others,
                # Of an option that is given twice the last counts.
                *("--host", host, "--users", str(cameras), "--spawn-rate", str(cameras)),
                *("--fps", str(rate / cameras), "--run-time", f"{self.options.step_seconds}s"),
                "--quiet-report",
            ],
            place,
            self.load_cores,
        )
        if status == INTERRUPTED:
            raise _Interrupted
        if status == UNUSABLE:
            raise LoadTestError(f"{variant} could not be loaded; see above")
        told = json.loads((place / REPORT).read_text())
        missed = tuple(verdict["line"] for verdict in told["slo"] if not verdict["held"])
        due, frames = round(rate * self.options.step_seconds), told["counts"]["frames"]
        # While the cameras begin, in the first second and two periods, fewer frames are due.
        begun = self.options.step_seconds - 1 - 2 * cameras / rate
        if frames < _OFFERED * rate * begun:
            missed += (f"offered: {frames} frames, of {due}: FAILED",)
        # Under load another may answer, or somebody switched: that is not what this variant can do.
        others = {name: of["answers"] for name, of in told["accuracy"].items() if name != variant}
        if others:
            by = f"{sum(others.values())} of {told['counts']['answered']} answers were by {', '.join(others)}"
            missed += (f"variant: {by}: FAILED",)
        p99, lag = told["latency_seconds"]["p99"], told["sent_late_p99_seconds"]
        step = Step(variant, rate, told["rate"], p99, told["late_ratio"], lag, missed)
        self.steps.append(step)
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {step.line}\n")
        return step.held

    def write(self, *, interrupted: bool) -> str:
        """Write report.md, report.json and capacity.png; the table, in Markdown."""
        self.folder.mkdir(parents=True, exist_ok=True)
        goals = {f"slo_{name}": getattr(self.options, f"slo_{name}") for name in _GOALS}
        content = {
            "host": self.options.host,
            "interrupted": interrupted,
            "capacity": self.found,
            "steps": [asdict(step) for step in self.steps],
            "settings": {**goals, "fps": self.options.fps, "step_seconds": self.options.step_seconds},
            "service_cores": sorted(self.service_cores),
            "load_cores": sorted(self.load_cores),
            "machine": machine(),
            "versions": versions(),
        }
        (self.folder / "report.json").write_text(json.dumps(content, indent=1) + "\n")
        by_variant: dict[str, dict[float, Step]] = {}
        for step in self.steps:
            # Of a rate that was tried again the second time counts.
            by_variant.setdefault(step.variant, {})[step.rate] = step
        drawn = {
            variant: [(step.rate, step.p99, step.held) for step in steps.values()]
            for variant, steps in by_variant.items()
        }
        draw_capacity(self.folder / "capacity.png", drawn, self.found, self.options.slo_p99 / 1e3)
        text = self._table() + f"\n{self._where()}\n" + self._doubts()
        if interrupted:
            text += "Ended early: this is what there was until then.\n"
        heading, picture = "# Capacity\n\n", "\n![p99 over the rate, and the capacities](capacity.png)\n"
        (self.folder / "report.md").write_text(heading + text + picture)
        return text

    def _table(self) -> str:
        first = next(iter(self.found.values()), None)
        rows = []
        for variant, rate in self.found.items():
            step = next((s for s in reversed(self.steps) if s.variant == variant and s.rate == rate), None)
            ratio = f"{rate / first:.2f} ×" if rate and first else ""
            at = [f"{step.answered:.1f}", f"{1e3 * (step.p99 or 0):.1f}"] if step else ["", ""]
            rows.append([variant, f"{rate:.1f}" if rate else "none", ratio, *at])
        first_name = next(iter(self.found), "the first")
        head = [
            "variant",
            "requests/s within all goals",
            f"of {first_name}",
            "answers/s there",
            "p99 ms there",
        ]
        return table(head, rows)

    def _doubts(self) -> str:
        """A line for each variant whose search the load itself may have ended, in place of the service."""
        lines = []
        for variant, found in self.found.items():
            above = [s for s in self.steps if s.variant == variant and s.rate > (found or 0) and not s.held]
            # The lowest rate that did not hold, and of its tries the last.
            step = min(reversed(above), key=lambda step: step.rate)
            lag = step.sent_late_p99_seconds
            if lag is not None and lag > MOST_LAG_SECONDS:
                lines.append(
                    f"{variant}: at {step.rate:.1f}/s the load may have ended the search, and not the"
                    f" service. {lag_note(lag)}\n"
                )
        return "".join(lines)

    def _where(self) -> str:
        options = self.options
        goals = (
            f"Goals: p50 ≤ {options.slo_p50:g} ms, p99 ≤ {options.slo_p99:g} ms,"
            f" errors ≤ {options.slo_errors:g}, late ≤ {options.slo_late:g}; steps of"
            f" {options.step_seconds} s, cameras of {options.fps:g} frames/s."
        )
        if options.host is not None:
            return f"{goals} The service is {options.host}."
        if self.service_cores == self.load_cores:
            return f"{goals} Service and load shared the machine's core: the load took time from it."
        return (
            f"{goals} The service had core {_names(self.service_cores)} of this machine for itself, the load"
            f" core {_names(self.load_cores)}."
        )


_GOALS = ("p50", "p99", "errors", "late", "top1")


def _cores() -> tuple[set[int], set[int]]:
    """Those of the service and those of the load: all for both where there is but one."""
    cores = sorted(os.sched_getaffinity(0))
    return (set(cores), set(cores)) if len(cores) == 1 else (set(cores[:1]), set(cores[1:]))


def _names(cores: set[int]) -> str:
    return ", ".join(map(str, sorted(cores)))


def _own_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, parents=[own_options()])
    parser.add_argument(
        "--variants",
        type=_variants,
        default="fp32,ptq,qat",
        metavar="A,B",
        help="which variants (default: %(default)s)",
    )
    parser.add_argument("--admin-token-file", metavar="FILE", help="needed to switch the variant of --host")
    parser.add_argument(
        "--start-rate", type=_rate, default=16.0, help="requests/s to start with (default: 16)"
    )
    parser.add_argument("--step-seconds", type=_seconds, default=6, help="for each rate (default: 6)")
    return parser


def _variants(text: str) -> list[str]:
    names = list(dict.fromkeys(filter(None, text.split(","))))
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} names no variant")
    return names


def _rate(text: str) -> float:
    number = positive(text)
    if number > _MOST_RATE:
        raise argparse.ArgumentTypeError(f"{text!r} is above {_MOST_RATE}, which no machine makes")
    return number


def _seconds(text: str) -> int:
    # As Locust has its run times: whole ones.
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(_DAY)) else 0
    if not 1 <= number <= _DAY:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_DAY}")
    return number


class _Refuse(argparse.Action):
    """Of an option of load tests that a search sets itself, from step to step."""

    def __call__(self, _parser: object, _options: object, _value: object, _typed: object = None) -> None:
        option = next(name for name in self.option_strings if name in _INSTEAD)
        raise LoadTestError(f"{option} is not for a search for the capacity: {_INSTEAD[option]}")


def _parser(own: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest capacity",
        # What is refused was added before as an option of load tests.
        conflict_handler="resolve",
        parents=[own],
        description="Find the highest rate at which a service meets all goals, for each variant. The load"
        " comes from cameras: frames are due at fixed times, however slow the service is. Other options are"
        " Locust's.",
        allow_abbrev=False,
    )
    add_options(parser)
    for names in (["--passes"], ["--users", "-u"], ["--run-time", "-t"], ["--spawn-rate", "-r"]):
        parser.add_argument(*names, action=_Refuse, help=argparse.SUPPRESS)
    return parser
