"""Run `python -m service` as real processes."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 120
# Processes started by nohup, or in the background of a shell, inherit that SIGHUP or SIGINT is ignored.
WITH_SIGNALS = ["env", "--default-signal"]


def environment(**settings: object) -> dict[str, str]:
    """Return this process's environment with only these settings (`port=80` sets EDGEWISE_PORT)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGEWISE_")}
    return kept | {f"EDGEWISE_{name.upper()}": str(value) for name, value in settings.items()}


def run(
    *arguments: str | Path,
    python: str | Path = sys.executable,
    module: str = "service",
    seconds: float = DEADLINE_SECONDS,
    **settings: object,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m service`, or another module, and return its result; fail after `seconds`."""
    return subprocess.run(  # noqa: S603
        [python, "-m", module, *arguments],
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


def one_line(stderr: str) -> str:
    """Return the one line that a refused command writes to standard error, without the program's name."""
    (line,) = stderr.splitlines()
    assert line.startswith("edgewise: ")
    return line.removeprefix("edgewise: ")


def interrupted(
    command: list[str | Path], when: bytes, number: signal.Signals = signal.SIGINT, **settings: object
) -> tuple[int, bytes]:
    """Interrupt a command once its standard error contains `when`; return exit status and later output."""
    with subprocess.Popen(  # noqa: S603
        [*WITH_SIGNALS, *command], cwd=ROOT, env=environment(**settings), stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        shown = b""
        while when not in shown:
            more = process.stderr.read(1)
            assert more, shown
            shown += more
        process.send_signal(number)
        _, rest = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, rest


def memory_bytes(pid: int, which: str = "VmRSS") -> int:
    """Return a process's memory in bytes: current (VmRSS) or peak (VmHWM)."""
    status = Path(f"/proc/{pid}/status").read_text()
    (kilobytes,) = re.findall(rf"^{which}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) * 1024


class Service:
    """A running service; `log` grows as it writes lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def line(self, message: str) -> dict[str, Any]:
        """Wait for a log line whose message starts with `message`, and return it."""
        found: list[dict[str, Any]] = []

        def has_line() -> bool:
            found[:] = [line for line in self.log if line["message"].startswith(message)]
            assert found or self.process.poll() is None, "it ended"
            return bool(found)

        wait_for(has_line)
        return found[0]

    def wait_for_lines(self, requests: int) -> None:
        """Wait until the log has at least this many requests."""
        wait_for(lambda: sum(line["logger"] == "edgewise.access" for line in list(self.log)) >= requests)

    @property
    def url(self) -> str:
        """The URL that it listens on."""
        url: str = self.line("ready")["url"]
        return url

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.url.rpartition(":")[2])

    def client(self) -> httpx.Client:
        """Return a client of the service."""
        return httpx.Client(base_url=self.url, timeout=DEADLINE_SECONDS)

    def memory(self, which: str = "VmHWM") -> int:
        """Return its memory in bytes: peak (VmHWM) or current (VmRSS)."""
        return memory_bytes(self.process.pid, which)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has exited and its log is complete; return its exit status."""
        status = self.process.wait(DEADLINE_SECONDS)
        self._reader.join()
        return status

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(json.loads(line))


def started(
    python: str | Path = sys.executable, prefix: Sequence[str] = WITH_SIGNALS, **settings: object
) -> subprocess.Popen[str]:
    """Start a service through the command `prefix`; its log is the process's `stdout`."""
    return subprocess.Popen(  # noqa: S603
        [*prefix, python, "-m", "service"],
        cwd=ROOT,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@contextmanager
def serving(
    python: str | Path = sys.executable, prefix: Sequence[str] = WITH_SIGNALS, **settings: object
) -> Iterator[Service]:
    """Yield a service that is ready, and stop it at the end."""
    with started(python, prefix, **{"port": 0, **settings}) as process:
        service = Service(process)
        try:
            assert service.url
            yield service
        finally:
            process.terminate()
            try:
                service.wait()
            except subprocess.TimeoutExpired:
                process.kill()
                service.wait()


@contextmanager
def serving_unread(**settings: object) -> Iterator[tuple["subprocess.Popen[bytes]", IO[bytes], str]]:
    """Yield a service whose log is not read after the line with its URL: process, log and URL."""
    with subprocess.Popen(
        [sys.executable, "-m", "service"],
        cwd=ROOT,
        env=environment(**{"port": 0, **settings}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout, json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


def wait_for(condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until the condition holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
