"""A real Prometheus with the project's configuration and rules, all durations shortened."""

import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.k8s.monitoring import FOLDER, RULES, program

# Durations are divided by this, so that a test need not wait for an hour.
SPEEDUP = 120
SCRAPE_MILLISECONDS = 400
MILLISECONDS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DURATION = re.compile(r"(\[|\bfor: |\boffset )(\d+)([smhd])\b")
DEADLINE_SECONDS = 300
# Each test process begins at a different port.
_PORTS = iter(range(10_000 + os.getpid() % 200 * 100, 32_000))


def shorten_durations(rules: str) -> str:
    """Return the rules with all durations shortened."""
    return DURATION.sub(lambda m: f"{m[1]}{int(m[2]) * MILLISECONDS[m[3]] // SPEEDUP}ms", rules)


class Prometheus:
    """A running Prometheus; any thread may use it."""

    def __init__(self, url: str, targets: Path) -> None:
        self._client = httpx.Client(base_url=url, timeout=30)
        self._file = targets
        self._lock = threading.Lock()
        # The scheme of each instance's URL.
        self._targets: dict[str, str] = {}

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return an expression's current samples: `metric`, the labels, and `value`."""
        found: list[dict[str, Any]] = self._get("/api/v1/query", query=expression)["result"]
        return found

    def firing(self, instance: str | None) -> set[str]:
        """Return the names of the firing alerts of one target, or of those without a target (None)."""
        active = self._get("/api/v1/alerts")["alerts"]
        firing = [a for a in active if a["state"] == "firing" and a["labels"].get("instance") == instance]
        for alert in firing:
            # A template that can't be filled in leaves an error in angle brackets.
            assert "<" not in "".join(alert["annotations"].values()), alert
        return {alert["labels"]["alertname"] for alert in firing}

    @contextmanager
    def watching(self, port: int, scheme: str = "http") -> Iterator["Target"]:
        """Scrape a port of this machine during this context."""
        instance = f"127.0.0.1:{port}"
        self._change(lambda: self._targets.update({instance: scheme}))
        try:
            yield Target(self, instance)
        finally:
            self._change(lambda: self._targets.pop(instance))

    def close(self) -> None:
        """Close the connections to it."""
        self._client.close()

    def _get(self, path: str, **query: str) -> dict[str, Any]:
        answer = self._client.get(path, params=query).json()
        assert answer["status"] == "success", answer
        data: dict[str, Any] = answer["data"]
        return data

    def _change(self, change: Callable[[], object]) -> None:
        with self._lock:
            change()
            # Prometheus may read the file at any time, so it is replaced, never half written.
            new_file = self._file.with_suffix(".new")
            groups = [
                {"targets": [instance], "labels": {"__scheme__": scheme}}
                for instance, scheme in self._targets.items()
            ]
            new_file.write_text(json.dumps(groups))
            new_file.rename(self._file)


class Target:
    """A scrape target; the service behind it may change."""

    def __init__(self, prometheus: Prometheus, instance: str) -> None:
        self.prometheus = prometheus
        self.instance = instance

    @property
    def started(self) -> float:
        """The start time that Prometheus scraped last, in seconds since 1970; 0 without a recent scrape."""
        found = self.prometheus.query(f'process_start_time_seconds{{instance="{self.instance}"}}')
        return float(found[0]["value"][1]) if found else 0.0

    def wait_for(self, *alerts: str) -> None:
        """Wait until all of these alerts fire."""
        self._wait(lambda firing: firing >= set(alerts), f"{sorted(alerts)} to fire")

    def wait_for_quiet(self) -> None:
        """Wait until no alert fires."""
        self._wait(lambda firing: not firing, "all alerts to clear")

    def _wait(self, holds: Callable[[set[str]], bool], what: str) -> None:
        wait_until(
            lambda: holds(self.prometheus.firing(self.instance)),
            lambda: f"{what} at {self.instance}; firing: {sorted(self.prometheus.firing(self.instance))}",
        )


@contextmanager
def prometheus(folder: Path) -> Iterator[Prometheus]:
    """Yield a Prometheus that stores its data in a folder and has no targets yet."""
    targets = folder / "targets.json"
    targets.write_text("[]")
    (folder / "rules.yaml").write_text(shorten_durations(RULES.read_text()))
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(_configuration(targets)))
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:  # noqa: S603
        running = Prometheus(f"http://127.0.0.1:{port}", targets)
        try:
            wait_until(lambda: _is_ready(port), (folder / "log").read_text)
            yield running
        finally:
            running.close()
            process.terminate()


def free_port() -> int:
    """Return a port that nobody listens on; this process returns each port only once.

    It is below the range that the system uses for outgoing connections, which could take it meanwhile.
    """
    for port in _PORTS:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


def wait_until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait until the condition holds; on timeout, fail and say what was waited for."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what()}"
        time.sleep(0.2)


def _configuration(targets: Path) -> dict[str, Any]:
    configuration: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    interval = f"{SCRAPE_MILLISECONDS}ms"
    configuration["global"] |= {
        "scrape_interval": interval,
        "scrape_timeout": interval,
        "evaluation_interval": interval,
    }
    (scrape,) = configuration["scrape_configs"]
    del scrape["static_configs"]
    # The tests' certificates are self-signed.
    scrape["tls_config"] = {"insecure_skip_verify": True}
    scrape["file_sd_configs"] = [{"files": [str(targets)], "refresh_interval": "1s"}]
    return configuration


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/-/ready", timeout=60).is_success
    except httpx.TransportError:
        return False
