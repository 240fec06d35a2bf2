"""What is told of the service that a load test started itself."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from loadtest.service import serving
from tests.system.loadtest.loads import LENIENT, SECONDS, children, load, loading, told
from tests.system.processes import wait_for


def test_a_service_that_ends_before_its_test_is_told_with_its_reason(tmp_path: Path) -> None:
    given = ("--python", sys.executable, "Camera", "--run-time", "8s", *LENIENT, "--slo-errors", "1")
    with loading(*given, "--report", tmp_path) as process:
        wait_for(lambda: bool(children(process.pid)))
        service = children(process.pid)[0]
        log = Path(f"/proc/{service}/fd/1")
        # While it is being started, that is its parent's.
        wait_for(lambda: log.is_file() and log.read_text().count("POST /v1/classify 200") > 10)
        os.kill(service, signal.SIGKILL)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    line = r'edgewise: the service exited during the test, by signal 9 \(Killed\); .*its log: \{"time": .*\}'
    assert re.fullmatch(line, errors.splitlines()[-1]), errors
    assert all(verdict["held"] for verdict in told(tmp_path)["slo"])


def test_a_service_that_hangs_does_not_keep_its_test(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("loadtest.service._END_SECONDS", 1.0)
    before = set(children(os.getpid()))
    with serving(sys.executable, {}):
        (process,) = set(children(os.getpid())) - before
        os.kill(process, signal.SIGSTOP)
    assert process not in children(os.getpid())
    assert "did not exit within 1 s and was killed" in capsys.readouterr().err


def test_a_python_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    result = load("--python", "/nope/python", "--report", tmp_path)
    assert result.returncode == 2
    assert result.stderr == (
        "edgewise: the service can't be started with /nope/python: No such file or directory\n"
    )
