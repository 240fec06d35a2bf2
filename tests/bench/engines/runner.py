"""A process with one engine and one file, which answers or is timed on request, and waits in between.

`python -m tests.bench.engines.runner ENGINE FILE THREADS PIXELS` is the program; `running` starts it. It
imports little besides its engine, so its memory is the engine's.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.engines.engine import Engine, Logits, load

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Memory:
    """A process's resident memory in bytes: in full, and with shared pages divided among their processes."""

    rss: int
    pss: int


class Runner:
    """A started process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def answer(self, pixels: Path, logits: Path) -> None:
        """Write the logits, float32[n, classes], for the pixels of a file, uint8[n, height, width, 3]."""
        self._ask(["answer", str(pixels), str(logits)])

    def time(self, count: int) -> list[float]:
        """Return the seconds of `count` inferences, after one that is not counted."""
        seconds: list[float] = self._ask(["time", count])
        return seconds

    def memory(self) -> Memory:
        """Return the memory that the process uses now."""
        rollup = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text()
        kilobytes = dict(re.findall(r"^(Rss|Pss): +(\d+) kB$", rollup, re.MULTILINE))
        return Memory(int(kilobytes["Rss"]) * 1024, int(kilobytes["Pss"]) * 1024)

    def _ask(self, command: list[Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self._process.args))} exited; see above")
        return json.loads(line)


@contextmanager
def running(engine: Engine, path: Path, threads: int, pixels: Path) -> Iterator[Runner]:
    """Start a process with the file loaded; it is timed on `pixels`, uint8[n, height, width, 3]."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", __name__, engine, str(path), str(threads), str(pixels)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:  # Leaving it closes standard input, which ends the process.
        yield Runner(process)


def _timed(logits: Logits, photos: NDArray[np.uint8], count: int) -> list[float]:
    seconds = []
    # The first is not counted: the caches are full of another engine's weights.
    for photo in islice(cycle(photos), 1 + count):
        start = perf_counter()
        logits(photo)
        seconds.append(perf_counter() - start)
    return seconds[1:]


def main() -> None:
    """Answer each command, a line on standard input, with a line on standard output."""
    engine, path, threads, pixels = sys.argv[1:]
    logits, photos = load(Engine(engine), Path(path), int(threads)), np.load(pixels)
    for line in sys.stdin:
        match json.loads(line):
            case ["answer", of, to]:
                np.save(to, np.stack([logits(photo) for photo in np.load(of, mmap_mode="r")]))
                answer: Any = None
            case ["time", count]:
                answer = _timed(logits, photos, count)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
