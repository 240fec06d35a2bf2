"""The service as a process on its own cores."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.process import children_on
from tests.system.processes import ROOT, environment

SERVICE = "service"
_START_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """A service that is ready; `ready_seconds`: from the start of its process."""

    pid: int
    host: str
    port: int
    ready_seconds: float

    @property
    def url(self) -> str:
        """The URL to POST photos to."""
        return f"http://{self.host}:{self.port}/v1/classify"


@contextmanager
def serving(
    folder: Path,
    cores: frozenset[int],
    settings: Mapping[str, object],
    *,
    workers: int = 1,
    program: str = SERVICE,
) -> Iterator[Server]:
    """Start the service, or a program that is run in the same way, on these cores; stop it at the end.

    Its log goes to a file in `folder`: unlike a pipe, a file neither blocks the service if nobody reads it,
    nor costs another process time to read.
    """
    path = folder / f"service-{time.monotonic_ns()}.log"
    start = time.monotonic()
    with path.open("wb") as log, children_on(cores):
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", program],
            cwd=ROOT,
            env=environment(**{"port": 0, "workers": workers, **settings}),
            stdout=log,
            stderr=log,
        )
    with process:
        try:
            yield _when_ready(process, path, start)
        finally:
            process.terminate()


def _when_ready(process: "subprocess.Popen[bytes]", log: Path, start: float) -> Server:
    while (passed := time.monotonic() - start) < _START_SECONDS:
        if process.poll() is not None:
            raise SystemExit(f"the service did not start: {log.read_text().strip()}")
        for line in log.read_text().splitlines(keepends=True):
            # The runtime writes lines of its own between the log's.
            if line.startswith("{") and line.endswith("\n") and "url" in (fields := json.loads(line)):
                host, _, port = fields["url"].removeprefix("http://").rpartition(":")
                return Server(process.pid, host, int(port), passed)
        time.sleep(0.005)
    raise SystemExit(f"the service was not ready after {_START_SECONDS} s")
