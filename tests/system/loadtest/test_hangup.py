"""What becomes of a load test where the connection is lost that it was started by."""

import signal
import sys
from pathlib import Path

from tests.system.loadtest.loads import LENIENT, SECONDS, children, loading, told, wait_for_progress
from tests.system.processes import Service


def test_where_the_connection_is_lost_the_test_ends_with_its_report_and_its_service(tmp_path: Path) -> None:
    given = ("--python", sys.executable, "--run-time", "10m", *LENIENT, "--report", tmp_path)
    with loading(*given) as process:
        wait_for_progress(process)
        started = children(process.pid)
        process.send_signal(signal.SIGHUP)
        # The terminal's, and then the shell's.
        process.send_signal(signal.SIGHUP)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, errors
    assert told(tmp_path)["interrupted"] is True
    assert len(started) == 2
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_what_nohup_started_goes_on(service: Service, photos: Path, tmp_path: Path) -> None:
    given = ("--host", service.url, "--photos", photos, "--run-time", "8s", *LENIENT, "--report", tmp_path)
    with loading(*given, through=["env", "--ignore-signal=HUP"]) as process:
        wait_for_progress(process)
        process.send_signal(signal.SIGHUP)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    assert told(tmp_path)["interrupted"] is False
