"""The service as a process beside the load test, where no host is named."""

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
# Longer than it takes to answer what it accepted, unless it hangs.
_END_SECONDS = 60.0


def default_python() -> str:
    """The Python of the service's own environment, where it is set up; else this one."""
    return str(_PYTHON) if _PYTHON.exists() else sys.executable


@contextmanager
def serving(python: str, settings: dict[str, str], cores: Set[int] | None = None) -> Iterator[str]:
    """The URL of a service that is ready, on a free port and these cores; SIGTERM in the end.

    `settings` go before those of the environment. It is in a session of its own: Ctrl-C does not reach it,
    so that its metrics can still be read.

    Raises:
        LoadTestError: it does not start.
        ServiceEnded: it ended by itself, which is told in place of what that led to.
    """
    settings = {**settings, "EDGEWISE_HOST": "127.0.0.1", "EDGEWISE_PORT": "0", "EDGEWISE_LOG_FORMAT": "json"}
    # A file never blocks it, as a pipe would that nobody empties.
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
        sys.stderr.write(f"edgewise: the service did not end within {_END_SECONDS:g} s, and was killed\n")
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
        raise LoadTestError(f"the service can't be started by {python}: {error.strerror}") from None
    finally:
        os.sched_setaffinity(0, before)


def _check_goes_on(process: "subprocess.Popen[bytes]", log: Path) -> None:
    status = process.poll()
    if status is None:
        return
    how = f"with status {status}" if status >= 0 else f"by signal {-status} ({signal.strsignal(-status)})"
    lines = log.read_text(errors="replace").splitlines() or [""]
    raise ServiceEnded(f"the service ended during the test, {how}; the last line of its log: {lines[-1]}")


def _url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LoadTestError(f"the service did not start: {' '.join(log.read_text().split())}")
        for line in log.read_text().splitlines(keepends=True):
            # The runtime writes lines of its own beside the log's.
            if line.startswith("{") and line.endswith("\n") and "url" in (fields := json.loads(line)):
                return str(fields["url"])
        time.sleep(0.01)
    raise LoadTestError(f"the service was not ready after {_START_SECONDS} s")
