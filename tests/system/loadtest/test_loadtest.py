"""`python -m loadtest` against a real service; no speed is asserted here."""

import re
import signal
import sys
from pathlib import Path

import pytest

from tests.system.loadtest.loads import (
    LENIENT,
    SECONDS,
    answered_requests,
    load,
    loading,
    read_report,
    write_photos,
)
from tests.system.processes import Service, wait_for


def test_without_a_host_it_starts_and_tests_the_default_service(tmp_path: Path) -> None:
    python = ("--python", sys.executable)
    result = load("--run-time", "4s", *python, *LENIENT, "--report", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "| answers/s | p50 ms | p99 ms |" in result.stdout
    assert "late, refused or dropped: " in result.stdout
    report = read_report(tmp_path)
    assert report["interrupted"] is False
    assert report["errors"] == {}
    assert report["settings"]["users"] == 8
    assert report["counts"]["answered"] > 10
    assert report["accuracy"]["qat"]["photos"] == 3
    assert report["accuracy"]["qat"]["top5"]["ratio"] == 1
    assert {"report.md", "report.html", "latency.png"} <= {path.name for path in tmp_path.iterdir()}


def test_load_test_and_service_count_the_same_answers(service: Service, photos: Path, tmp_path: Path) -> None:
    before = answered_requests(service.url)
    result = load("--host", service.url, "--photos", photos, "--passes", "2", *LENIENT, "--report", tmp_path)
    assert result.returncode == 0, result.stderr
    (measured,) = read_report(tmp_path)["accuracy"].values()
    assert (measured["answers"], measured["photos"], measured["correct"]) == (14, 7, 12)
    # Plus the request for the classes.
    assert answered_requests(service.url) - before == 15
    (window,) = read_report(tmp_path)["window_accuracy"].values()
    assert window["labelled"] >= 14
    assert f"/{photos.name}" not in result.stderr


def test_inspectors_send_labels_as_feedback(service: Service, photos: Path, tmp_path: Path) -> None:
    args = ("--photos", photos, "--passes", "1", "Inspector", "--users", "4")
    result = load("--host", service.url, *args, *LENIENT, "--report", tmp_path)
    assert result.returncode == 0, result.stderr
    assert read_report(tmp_path)["counts"]["truths"] == 7


@pytest.mark.parametrize(("name", "status"), [("0.png", 2), ("z.png", 1)])
def test_an_unreadable_photo_is_reported(service: Service, tmp_path: Path, name: str, status: int) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    # A file that not even root can read.
    (write_photos(photos) / "c01" / name).symlink_to("/proc/self/mem")
    report = tmp_path / "report"
    args = ("Camera", "--photos", photos, "--passes", "1", *LENIENT, "--report", report)
    result = load("--host", service.url, *args)
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    if status == 2:
        assert result.stderr == f"edgewise: {photos}/c01/{name} can't be read: Input/output error\n"
    else:
        assert read_report(report)["errors"] == {"a photo can't be read: Input/output error": 1}
        assert read_report(report)["error_ratio"] == pytest.approx(1 / 8)


def test_a_trailing_slash_of_the_host_changes_nothing(service: Service, photos: Path, tmp_path: Path) -> None:
    args = ("--photos", photos, "--passes", "1", *LENIENT, "--report", tmp_path)
    result = load("--host", f"{service.url}/", *args)
    assert result.returncode == 0, result.stderr
    assert read_report(tmp_path)["counts"]["answered"] == 7


def test_missed_goals_are_reported(service: Service, photos: Path, tmp_path: Path) -> None:
    args = ("--photos", photos, "--passes", "1", *LENIENT, "--slo-p99", "0.01", "--slo-top1", "0.99")
    result = load("--host", service.url, *args, "--report", tmp_path)
    assert result.returncode == 1, result.stderr
    failed = [line for line in result.stderr.splitlines() if line.startswith("edgewise: ")]
    assert len(failed) == 2
    assert re.fullmatch("edgewise: p99: .* ms, the goal is at most 0.01 ms: FAILED", failed[0])
    assert failed[1] == "edgewise: top1: 85.71 %, the goal is at least 99 %: FAILED"


@pytest.mark.parametrize(
    ("number", "processes"),
    [(signal.SIGINT, []), (signal.SIGTERM, []), (signal.SIGINT, ["--processes", "2"])],
)
def test_an_interrupted_test_writes_its_report(
    service: Service, photos: Path, tmp_path: Path, number: signal.Signals, processes: list[str]
) -> None:
    before = answered_requests(service.url)
    args = ("--photos", photos, "--run-time", "10m", *processes, *LENIENT)
    with loading("--host", service.url, *args, "--report", tmp_path) as process:
        wait_for(lambda: answered_requests(service.url) >= before + 30)
        process.send_signal(number)
        output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "Interrupted" in output
    assert read_report(tmp_path)["interrupted"] is True
    assert read_report(tmp_path)["counts"]["answered"] >= 15


def test_copies_of_a_photo_count_as_one_photo(service: Service, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    original = write_photos(photos) / "c01" / "40.png"
    for number in range(3):
        (original.parent / f"copy{number}.png").write_bytes(original.read_bytes())
    args = ("--photos", photos, "--passes", "1", *LENIENT, "--report", tmp_path)
    result = load("--host", service.url, *args)
    assert result.returncode == 0, result.stderr
    (measured,) = read_report(tmp_path)["accuracy"].values()
    assert (measured["answers"], measured["photos"]) == (10, 7)


def test_no_frame_is_due_after_the_last_photo(service: Service, photos: Path, tmp_path: Path) -> None:
    # More frames a second than a service can answer: at the end, many would have been due.
    args = ("Camera", "--users", "1", "--fps", "10000", "--photos", photos, "--passes", "2")
    result = load("--host", service.url, *args, *LENIENT, "--report", tmp_path)
    assert result.returncode == 0, result.stderr
    counts = read_report(tmp_path)["counts"]
    assert (counts["requests"], counts["frames"], counts["late"]) == (14, 14, 14)
