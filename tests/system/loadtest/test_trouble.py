"""What a load test reports about a service that hangs, dies or is overloaded."""

import re
import signal
from pathlib import Path

import pytest

from service.bundle.folder import Bundle
from tests.system.loadtest.loads import LENIENT, SECONDS, answered_requests, load, loading, read_report
from tests.system.processes import serving, wait_for


@pytest.mark.parametrize("client", ["App", "Inspector"])
def test_a_service_that_hangs_to_the_end_fails_a_goal(
    photos: Path, colours: Bundle, tmp_path: Path, client: str
) -> None:
    with serving(bundle=colours.path) as service:
        args = (client, "--users", "8", "--run-time", "10s", "--slo-p50", "20000", "--slo-p99", "1000")
        with loading("--host", service.url, "--photos", photos, *args, "--report", tmp_path) as process:
            # More than the request for the classes: its users are sending.
            wait_for(lambda: answered_requests(service.url) > 8)
            service.signal(signal.SIGSTOP)
            try:
                output, errors = process.communicate(timeout=SECONDS)
            finally:
                service.signal(signal.SIGCONT)
    assert process.returncode == 1, errors
    ((error, number),) = read_report(tmp_path)["errors"].items()
    assert error == "no answer when the test ended, after more than 4 s"
    assert 1 <= number <= 8
    assert re.search("^edgewise: errors: .*FAILED$", errors, re.MULTILINE)
    assert "- late, refused or dropped: not judged: no camera sent a frame\n" in output
    assert "given up" not in output


def test_a_service_that_dies_is_reported(photos: Path, colours: Bundle, tmp_path: Path) -> None:
    with serving(bundle=colours.path) as service:
        args = (
            "Camera",
            "--users",
            "4",
            "--fps",
            "10",
            "--run-time",
            "6s",
            *LENIENT[:4],
            "--slo-late",
            "0.1",
        )
        with loading("--host", service.url, "--photos", photos, *args, "--report", tmp_path) as process:
            before = answered_requests(service.url)
            wait_for(lambda: answered_requests(service.url) > before + 10)
            service.process.kill()
            _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    report = read_report(tmp_path)
    assert report["errors"].keys() <= {
        "ConnectionRefusedError",
        "ConnectionResetError",
        "HTTPConnectionClosed",
    }
    failed = sum(report["errors"].values())
    # A frame without an answer counts as late.
    assert report["counts"]["late"] >= failed > 10
    assert "edgewise: late, refused or dropped: " in errors


def test_overload_is_not_an_error_and_cameras_back_off(photos: Path, colours: Bundle, tmp_path: Path) -> None:
    # A queue of one, and far more frames than one worker can process.
    with serving(bundle=colours.path, workers=1, queue_size=1) as service:
        result = load(
            *("--host", service.url, "--photos", photos, "Camera", "--users", "40", "--fps", "40"),
            *("--run-time", "4s", *LENIENT, "--report", tmp_path),
        )
    report = read_report(tmp_path)
    counts = report["counts"]
    assert result.returncode == 0, result.stderr
    assert report["errors"] == {}
    assert counts["refused"] == counts["frames_refused"] > 0
    # Retry-After is at least one second, in which a camera has 40 frames.
    assert counts["dropped"] > 10 * counts["refused"]
    assert counts["frames"] >= counts["answered"] + counts["refused"] + counts["dropped"]
    assert report["late_ratio"] > 0.5
