"""The service as a process of the load test's own, if no host is named."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from loadtest.errors import LoadTestError, ServiceEnded

ROOT = Path(__file__).parent.parent
_PYTHON = ROOT / ".venv-serve" / "bin" / "python"
_START_SECONDS = 60
# Longer than the service takes to answer what it accepted, unless it hangs.
_END_SECONDS = 60.0


def default_python() -> str:
    """Return the Python of the service's own environment if that is set up, or else this one."""
    return str(_PYTHON) if _PYTHON.exists() else sys.executable


@contextmanager
def serving(python: str, settings: dict[str, str], cores: Set[int] | None = None) -> Iterator[str]:
    """Start a service on a free port and these cores; yield its URL once it is ready, and stop it at the end.

    `settings` override the environment's. The service has its own session, so Ctrl-C does not reach it and
    its metrics can still be read.

    Raises:
        LoadTestError: it does not start.
        ServiceEnded: it exited by itself; replaces the errors that this caused.
    """
    settings = {**settings, "EDGEWISE_HOST": "127.0.0.1", "EDGEWISE_PORT": "0", "EDGEWISE_LOG_FORMAT": "json"}
    # A file never blocks the service, unlike a pipe that nobody reads.
    with tempfile.NamedTemporaryFile(prefix="edgewise-service-", suffix=".log") as file:
        log = Path(file.name)
        with _started(python, settings, log, cores) as process:
            try:
                url = _url(process, log)
                try:
                    yield url
                finally:
                    _check_goes_on(process, log)
            finally:
                _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"edgewise: the service did not exit within {_END_SECONDS:g} s and was killed\n")
        process.kill()


def _started(
    python: str, settings: dict[str, str], log: Path, cores: Set[int] | None
) -> "subprocess.Popen[bytes]":
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        with log.open("wb") as output:
            return subprocess.Popen(  # noqa: S603
                [python, "-m", "service"],
                cwd=ROOT,
                env={**os.environ, **settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except OSError as error:
        raise LoadTestError(f"the service can't be started with {python}: {error.strerror}") from None
    finally:
        os.sched_setaffinity(0, before)


def _check_goes_on(process: "subprocess.Popen[bytes]", log: Path) -> None:
    status = process.poll()
    if status is None:
        return
    how = f"with status {status}" if status >= 0 else f"by signal {-status} ({signal.strsignal(-status)})"
    lines = log.read_text(errors="replace").splitlines() or [""]
    raise ServiceEnded(f"the service exited during the test, {how}; the last line of its log: {lines[-1]}")


def _url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LoadTestError(f"the service did not start: {' '.join(log.read_text().split())}")
        for line in log.read_text().splitlines(keepends=True):
            # The runtime writes lines of its own between the log's.
            if line.startswith("{") and line.endswith("\n") and "url" in (fields := json.loads(line)):
                return str(fields["url"])
        time.sleep(0.01)
    raise LoadTestError(f"the service was not ready after {_START_SECONDS} s")
