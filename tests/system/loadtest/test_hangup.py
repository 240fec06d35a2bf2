"""What a load test does on SIGHUP, when the terminal that started it loses its connection."""

import signal
import sys
from pathlib import Path

from tests.system.loadtest.loads import LENIENT, SECONDS, children, loading, read_report, wait_for_progress
from tests.system.processes import Service


def test_sighup_ends_the_test_with_a_report_and_ends_its_service(tmp_path: Path) -> None:
    args = ("--python", sys.executable, "--run-time", "10m", *LENIENT, "--report", tmp_path)
    with loading(*args) as process:
        wait_for_progress(process)
        started = children(process.pid)
        process.send_signal(signal.SIGHUP)
        # The terminal sends one, and then the shell another.
        process.send_signal(signal.SIGHUP)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, errors
    assert read_report(tmp_path)["interrupted"] is True
    assert len(started) == 2
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_a_test_started_by_nohup_continues_after_sighup(
    service: Service, photos: Path, tmp_path: Path
) -> None:
    args = ("--host", service.url, "--photos", photos, "--run-time", "8s", *LENIENT, "--report", tmp_path)
    with loading(*args, prefix=["env", "--ignore-signal=HUP"]) as process:
        wait_for_progress(process)
        process.send_signal(signal.SIGHUP)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    assert read_report(tmp_path)["interrupted"] is False
