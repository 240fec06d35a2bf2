"""Locust as a process without its page; signals reach it as a single SIGTERM."""

import argparse
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from loadtest.report_folder import REPORT_FILE
from loadtest.service import ROOT, default_python
from loadtest.status import INTERRUPTED, UNUSABLE

LOOPBACK = "127.0.0.1"
# The load test has its own report and progress.
QUIET = ("--headless", "--only-summary", "--skip-log-setup")
# Cameras need no staggered start: they spread their frames themselves.
AT_ONCE = ("--spawn-rate", "100")
# Seconds that a master waits for its workers; by default it waits forever.
MOST_WAIT = ("--expect-workers-max-wait", "120")
_LOCUSTFILE = Path(__file__).with_name("locustfile.py")


def run_locust(arguments: Sequence[str], cores: Set[int] | None = None) -> int:
    """Run Locust to its end, on these cores; return its exit status, or 130 if a signal ended it.

    SIGINT, SIGTERM and SIGHUP, from a terminal or another program, make it stop and write its report; a
    second signal kills it.
    """
    signals = 0
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        nonlocal signals
        # When a connection is lost, the terminal sends SIGHUP, and the shell may send it again.
        if number == signal.SIGHUP and signals:
            return
        signals += 1
        if process is None:
            return
        # Locust handles SIGTERM at any time, but not SIGINT while it waits for workers.
        if signals > 1:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.send_signal(signal.SIGTERM)

    # Set before Locust starts, so that it does not inherit an ignored SIGINT: it stops its workers by SIGINT.
    numbers = (signal.SIGINT, signal.SIGTERM, *hangup())
    handlers = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        with meeting_place(arguments) as met:
            process = _start([*met, *arguments], cores)
            if signals:
                process.send_signal(signal.SIGTERM)
            with process:
                status = process.wait()
        # If Locust exits before its workers know their master, it leaves them behind.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return INTERRUPTED if signals else status


def hangup() -> list[signal.Signals]:
    """Return SIGHUP, which a lost connection (ssh) sends, unless it is ignored, as under nohup."""
    return [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]


def _start(arguments: Sequence[str], cores: Set[int] | None) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), *arguments],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def meeting_place(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Yield the options by which the processes of one test find each other, and nobody else finds them.

    Locust's default port is open to other machines, and taken if another test runs on this one.
    """
    if not any(argument.partition("=")[0] == "--processes" for argument in arguments):
        yield []
        return
    with socket.socket() as held:
        # Bound but not listening until the test ends, so that the system gives the port to nobody else.
        # Locust's master can still bind it, because both sockets allow that.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((LOOPBACK, 0))
        port = str(held.getsockname()[1])
        bound = ["--master-bind-host", LOOPBACK, "--master-bind-port", port]
        yield [*bound, "--master-host", LOOPBACK, "--master-port", port]


def own_options() -> argparse.ArgumentParser:
    """Return the options that are not passed to Locust as they are."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--host", "-H", metavar="URL", help="the service to load (default: start one here)")
    parser.add_argument(
        "--python",
        default=default_python(),
        help="Python to start the service with, without --host (default: %(default)s)",
    )
    return parser


def run_test(arguments: Sequence[str], folder: Path, cores: Set[int] | None = None) -> int:
    """Run a test that reports to a folder, like `run_locust`; the exit status is 2 if there is no report.

    Locust's own status is 1 both for a missed goal and for a test that can't start.
    """
    report = folder / REPORT_FILE
    # An earlier test may have left its report here.
    report.unlink(missing_ok=True)
    status = run_locust([*arguments, "--report", str(folder), "--json-file", str(folder / "locust")], cores)
    return status if report.exists() or status == INTERRUPTED else UNUSABLE
