"""Load tests that are started from Locust's page."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx

from tests.system.loadtest.loads import LENIENT, SECONDS, answered_requests, read_report
from tests.system.processes import ROOT, WITH_SIGNALS, Service, environment, wait_for
from tests.system.prometheus import free_port


def test_a_test_after_one_that_could_not_start_has_a_report(
    service: Service, photos: Path, tmp_path: Path
) -> None:
    port = str(free_port())
    options = ["--web-host", "127.0.0.1", "--web-port", port, "--photos", str(photos), "--report", tmp_path]
    with subprocess.Popen(  # noqa: S603
        [*WITH_SIGNALS, sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", *options, *LENIENT],
        cwd=ROOT,
        env={**environment(), "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            page = f"http://127.0.0.1:{port}"
            wait_for(lambda: state(page) == "ready")
            start(page, "http://127.0.0.1:9")
            wait_for(lambda: state(page) == "stopped")
            start(page, service.url)
            wait_for(lambda: answered_requests(service.url) > 10)
        finally:
            process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, errors
    assert read_report(tmp_path)["counts"]["answered"] > 5


def state(page: str) -> str | None:
    """Return the state of the test, or None if the page is not there yet."""
    try:
        return str(httpx.get(f"{page}/stats/requests", timeout=60).json()["state"])
    except httpx.ConnectError:
        return None


def start(page: str, host: str) -> None:
    form = {"user_count": "8", "spawn_rate": "8", "host": host}
    assert httpx.post(f"{page}/swarm", data=form, timeout=60).json()["success"]
