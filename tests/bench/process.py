"""The processor time of a process, and the cores that a new one runs on."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def children_on(cores: frozenset[int]) -> Iterator[None]:
    """Run processes that are started inside, with all their threads, on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """Return the processor seconds of a process so far, user and system, in all its threads."""
    # The second field, the program's name in parentheses, may contain spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def wait_until_idle(pid: int, seconds: float = 30) -> None:
    """Return once the process has used no processor time for a while: it has handled all requests."""
    deadline = time.monotonic() + seconds
    before = cpu_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(0.1)
        now = cpu_seconds(pid)
        if now == before:
            return
        before = now
