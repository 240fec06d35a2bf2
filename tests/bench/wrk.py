"""Load from wrk: on each connection the next request follows as soon as the last one is answered."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.bench.measured import Measured
from tests.bench.photos import Photo
from tests.bench.process import children_on, cpu_seconds, wait_until_idle
from tests.bench.server import Server

SCRIPT = Path(__file__).with_name("wrk.lua")
# Longer than any answer takes: wrk counts a later one as failed, and goes on waiting.
_TIMEOUT_SECONDS = 60


def program() -> str:
    """Return the path of wrk."""
    path = shutil.which("wrk")
    if path is None:
        raise SystemExit("wrk, which generates the load, is missing: install it (apt-get install wrk)")
    return path


def load(server: Server, photo: Photo, connections: int, seconds: float, cores: frozenset[int]) -> Measured:
    """Send the photo repeatedly from these cores; the processor time is the server's."""
    command = [program(), "-t1", f"-c{connections}", f"-d{seconds:g}s", f"--timeout={_TIMEOUT_SECONDS}s"]
    before = cpu_seconds(server.pid)
    with children_on(cores):
        result = subprocess.run(  # noqa: S603
            [*command, "-s", str(SCRIPT), server.url],
            env={**os.environ, "PHOTO": str(photo.path)},
            capture_output=True,
            text=True,
            check=True,
        )
    used = cpu_seconds(server.pid) - before
    wait_until_idle(server.pid)
    counts = json.loads(result.stdout.splitlines()[-1])
    return Measured(
        answered=counts["requests"] - counts["refused"],
        seconds=counts["microseconds"] / 1e6,
        cpu_seconds=used,
        refused=counts["refused"],
        failed=counts["failed"],
    )
