"""`python -m service` as real processes."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 120
# What nohup or a shell in the background runs is passed on that SIGHUP or SIGINT is ignored.
WITH_SIGNALS = ["env", "--default-signal"]


def environment(**settings: object) -> dict[str, str]:
    """This process' environment, with these settings (`port=80`) and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGEWISE_")}
    return kept | {f"EDGEWISE_{name.upper()}": str(value) for name, value in settings.items()}


def run(
    *arguments: str | Path, python: str | Path = sys.executable, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run `python -m service` to its end."""
    return subprocess.run(  # noqa: S603
        [python, "-m", "service", *arguments],
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_SECONDS,
    )


def interrupted(
    command: list[str | Path], when: bytes, number: signal.Signals = signal.SIGINT, **settings: object
) -> tuple[int, bytes]:
    """Interrupt a command once its standard error shows `when`; its exit status and what came after."""
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
    """Bytes of memory that the process holds: now (VmRSS) or at the most so far (VmHWM)."""
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
        """The log's line with this beginning, when it is there."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found[:] = [line for line in self.log if line["message"].startswith(message)]
            assert found or self.process.poll() is None, "it ended"
            return bool(found)

        wait_for(is_there)
        return found[0]

    def wait_for_lines(self, requests: int) -> None:
        """Return when the log has as many requests."""
        wait_for(lambda: sum(line["logger"] == "edgewise.access" for line in list(self.log)) >= requests)

    @property
    def url(self) -> str:
        """Where it listens."""
        url: str = self.line("ready")["url"]
        return url

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.url.rpartition(":")[2])

    def client(self) -> httpx.Client:
        """A client of it."""
        return httpx.Client(base_url=self.url, timeout=DEADLINE_SECONDS)

    def memory(self, which: str = "VmHWM") -> int:
        """Bytes of memory: at the highest (VmHWM) or now (VmRSS)."""
        return memory_bytes(self.process.pid, which)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit status, when it ended and its log is whole."""
        status = self.process.wait(DEADLINE_SECONDS)
        self._reader.join()
        return status

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(json.loads(line))


def started(python: str | Path = sys.executable, **settings: object) -> subprocess.Popen[str]:
    """A process whose log is its `stdout`."""
    return subprocess.Popen(  # noqa: S603
        [*WITH_SIGNALS, python, "-m", "service"],
        cwd=ROOT,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@contextmanager
def serving(python: str | Path = sys.executable, **settings: object) -> Iterator[Service]:
    """A service that is ready; it is stopped in the end where the test did not."""
    with started(python, **{"port": 0, **settings}) as process:
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


def wait_for(condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    """Return when the condition holds; fail after two minutes, or so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
