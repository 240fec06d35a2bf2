"""What Linux tells of a process: processor time; and which cores a new one gets."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def children_on(cores: frozenset[int]) -> Iterator[None]:
    """Processes that are started inside run on these cores alone, all their threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """Processor seconds of the process so far, user and system, all threads."""
    # The second field, the program's name in parentheses, may hold blanks.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def wait_until_idle(pid: int, seconds: float = 30) -> None:
    """Return when the process has used no processor for a while: what it was sent is done."""
    deadline = time.monotonic() + seconds
    before = cpu_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(0.1)
        now = cpu_seconds(pid)
        if now == before:
            return
        before = now
