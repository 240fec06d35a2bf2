"""The search itself: one load test after another, each at a rate that the one before suggests."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.capacity.bisection import highest
from loadtest.capacity.cores import Cores
from loadtest.capacity.step import Step, judge_step
from loadtest.errors import LoadTestError
from loadtest.locusts import QUIET, run_test
from loadtest.report_folder import REPORT_FILE
from loadtest.status import INTERRUPTED, UNUSABLE


class Interrupted(Exception):
    """A signal ended a step."""


@dataclass
class Search:
    """The steps tried so far, and the capacities found, in requests/s, by variant; None: no rate held.

    `others`: the options that are Locust's. Each step's report goes to `folder`/VARIANT/RATE. `load` runs a
    step's load test on some cores and returns its exit status, as `run_test` does.
    """

    options: argparse.Namespace
    others: Sequence[str]
    folder: Path
    cores: Cores
    load: Callable[[Sequence[str], Path, Set[int]], int] = run_test
    steps: list[Step] = field(default_factory=list)
    found: dict[str, float | None] = field(default_factory=dict)

    def run(self, variant: str, host: str) -> None:
        """Search for this variant's capacity.

        Raises:
            Interrupted: a signal ended a step.
            LoadTestError: the variant can't be loaded.
        """

        def holds(rate: float) -> bool:
            # A disturbance of the machine that fails one step rarely fails the next as well.
            name = f"{rate:07.2f}"
            return self._try(variant, host, rate, name) or self._try(variant, host, rate, f"{name}-again")

        self.found[variant] = highest(holds, self.options.start_rate)

    def _try(self, variant: str, host: str, rate: float, name: str) -> bool:
        folder = self.folder / variant / name
        cameras = max(1, round(rate / self.options.fps))
        seconds = self.options.step_seconds
        status = self.load(
            [
                *QUIET,
                "Camera",
                *self.others,
                # The last value of a repeated option counts.
                *("--host", host, "--users", str(cameras), "--spawn-rate", str(cameras)),
                *("--fps", str(rate / cameras), "--run-time", f"{seconds}s"),
                "--quiet-report",
            ],
            folder,
            self.cores.load,
        )
        if status == INTERRUPTED:
            raise Interrupted
        if status == UNUSABLE:
            raise LoadTestError(f"{variant} could not be loaded; see above")
        step = judge_step(variant, rate, cameras, seconds, json.loads((folder / REPORT_FILE).read_text()))
        self.steps.append(step)
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {step.line}\n")
        return step.held
