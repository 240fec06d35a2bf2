"""The parameters of a benchmark, from the command line, the same for all parts."""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """The parameters. `seconds`: of each measurement; `settings`: the service's, without EDGEWISE_."""

    variant: str
    seconds: int
    rounds: int
    connections: tuple[int, ...]
    settings: Mapping[str, object]
    folder: Path
    server_cores: frozenset[int]
    load_cores: frozenset[int]

    @property
    def all_cores(self) -> frozenset[int]:
        """The cores of the server and of the load."""
        return self.server_cores | self.load_cores

    def say(self, what: str) -> None:
        """Write what is being done to standard error; standard output is for the tables."""
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")


def two_cores() -> tuple[frozenset[int], frozenset[int]]:
    """Return one core for the server and another for the load."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("the benchmark needs two cores: one for the service, another for the load")
    return frozenset(cores[:1]), frozenset(cores[1:2])
