"""What a load test reports about a service that it started itself."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from loadtest.service import serving
from tests.system.loadtest.loads import LENIENT, SECONDS, children, load, loading, read_report
from tests.system.processes import wait_for


def test_a_service_that_dies_during_the_test_is_reported(tmp_path: Path) -> None:
    args = ("--python", sys.executable, "Camera", "--run-time", "8s", *LENIENT, "--slo-errors", "1")
    with loading(*args, "--report", tmp_path) as process:
        wait_for(lambda: bool(children(process.pid)))
        service = children(process.pid)[0]
        log = Path(f"/proc/{service}/fd/1")
        # Until the service has started, this is its parent's output.
        wait_for(lambda: log.is_file() and log.read_text().count("POST /v1/classify 200") > 10)
        os.kill(service, signal.SIGKILL)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    line = r'edgewise: the service exited during the test, by signal 9 \(Killed\); .*its log: \{"time": .*\}'
    assert re.fullmatch(line, errors.splitlines()[-1]), errors
    assert all(verdict["held"] for verdict in read_report(tmp_path)["slo"])


def test_a_service_that_hangs_at_the_end_is_killed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("loadtest.service._END_SECONDS", 1.0)
    before = set(children(os.getpid()))
    with serving(sys.executable, {}):
        (process,) = set(children(os.getpid())) - before
        os.kill(process, signal.SIGSTOP)
    assert process not in children(os.getpid())
    assert "did not exit within 1 s and was killed" in capsys.readouterr().err


def test_a_proxy_of_the_environment_is_not_used(tmp_path: Path) -> None:
    variables = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": ""}
    args = ("--python", sys.executable, "--run-time", "2s", *LENIENT, "--slo-errors", "1")
    result = load(*args, "--report", tmp_path, variables=variables)
    assert result.returncode == 0, result.stderr


def test_a_missing_python_is_reported_in_one_line(tmp_path: Path) -> None:
    result = load("--python", "/nope/python", "--report", tmp_path)
    assert result.returncode == 2
    assert result.stderr == (
        "edgewise: the service can't be started with /nope/python: No such file or directory\n"
    )
