"""Load tests in several processes, which write one report."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.system.loadtest.loads import (
    LENIENT,
    SECONDS,
    answered_requests,
    children,
    load,
    loading,
    read_report,
    wait_for_progress,
)
from tests.system.processes import ROOT, Service, wait_for
from tests.system.prometheus import free_port


@pytest.fixture
def master() -> list[str]:
    """Options for a master that waits for two workers."""
    address = ["--master-bind-host", "127.0.0.1", "--master-bind-port", str(free_port())]
    return ["--master", *address, "--expect-workers", "2"]


@pytest.fixture
def worker(master: list[str]) -> list[str]:
    """Options for a worker that connects to the master."""
    port = master[master.index("--master-bind-port") + 1]
    return ["--worker", "--master-host", "127.0.0.1", "--master-port", port]


def test_several_processes_write_one_report(service: Service, photos: Path, tmp_path: Path) -> None:
    before = answered_requests(service.url)
    args = ("--photos", photos, "--processes", "2", "--run-time", "3s", *LENIENT)
    result = load("--host", service.url, *args, "--report", tmp_path)
    assert result.returncode == 0, result.stderr
    assert_all_are_counted(read_report(tmp_path), answered_requests(service.url) - before)


def test_two_tests_with_several_processes_run_at_once(service: Service, photos: Path, tmp_path: Path) -> None:
    args = ("--photos", photos, "--processes=2", "--run-time", "3s", *LENIENT, "--host", service.url)
    with (
        loading(*args, "--report", tmp_path / "one") as one,
        loading(*args, "--report", tmp_path / "other") as other,
    ):
        for process in (one, other):
            _, errors = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, errors
    for name in ("one", "other"):
        assert read_report(tmp_path / name)["errors"] == {}
        assert read_report(tmp_path / name)["counts"]["answered"] > 10


def test_separately_started_workers_report_to_their_master(
    service: Service, photos: Path, tmp_path: Path, master: list[str], worker: list[str]
) -> None:
    before = answered_requests(service.url)
    missed_goal = ("--slo-p50", "0.001")
    args = ("--host", service.url, "--photos", photos, "--run-time", "3s", *LENIENT, *missed_goal)
    with (
        loading(*master, *args, "--report", tmp_path) as process,
        loading(*worker, "--photos", photos),
        loading(*worker, "--photos", photos),
    ):
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1, errors
    assert "edgewise: p50: " in errors
    assert_all_are_counted(read_report(tmp_path), answered_requests(service.url) - before)


def test_a_worker_that_cannot_start_ends_the_test(
    service: Service,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    master: list[str],
    worker: list[str],
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # As on separate machines: each worker looks for the photos in its own working directory.
    args = ("--host", service.url, "--photos", photos.name, "--run-time", "30s", *LENIENT)
    with (
        loading(*master, *args, "--report", tmp_path / "report", folder=photos.parent) as process,
        loading(*worker, folder=photos.parent),
        loading(*worker, folder=tmp_path),
    ):
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 2, errors
    assert f"a worker can't start: {photos.name} can't be read" in errors


def test_waiting_for_missing_workers_ends(
    service: Service, photos: Path, tmp_path: Path, master: list[str]
) -> None:
    args = ("--host", service.url, "--photos", photos, "--expect-workers-max-wait", "2")
    result = load(*master, *args, "--report", tmp_path)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("waiting for 2 workers\n")
    assert "Gave up waiting for workers to connect" in result.stderr


@pytest.mark.parametrize("killed", [1, 2])
def test_lost_workers_fail_the_test(service: Service, photos: Path, tmp_path: Path, killed: int) -> None:
    args = ("--photos", photos, "Camera", "--users", "4", "--processes", "2", "--run-time", "16s", *LENIENT)
    with loading("--host", service.url, *args, "--report", tmp_path) as process:
        wait_for_progress(process)
        (master,) = children(process.pid)
        for worker in children(master)[:killed]:
            os.kill(worker, signal.SIGKILL)
        output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1, errors
    line = f"workers: {killed} of 2 load workers were lost, with their share of the load: FAILED"
    assert f"- {line}\n" in output
    assert f"edgewise: {line}\n" in errors
    assert read_report(tmp_path)["lost_workers"] == killed


def test_a_worker_lost_at_the_very_end_is_counted_as_lost(
    service: Service, photos: Path, tmp_path: Path
) -> None:
    args = ("--photos", photos, "Camera", "--users", "4", "--processes", "2", "--run-time", "10m", *LENIENT)
    with loading("--host", service.url, *args, "--report", tmp_path) as process:
        wait_for_progress(process)
        (master,) = children(process.pid)
        os.kill(children(master)[0], signal.SIGKILL)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, errors
    assert read_report(tmp_path)["lost_workers"] == 1


def test_the_last_counts_of_a_slow_worker_are_in_the_report(
    service: Service, photos: Path, tmp_path: Path
) -> None:
    before = answered_requests(service.url)
    args = ("--photos", photos, "Camera", "--users", "8", "--fps", "20", "--processes", "2", *LENIENT)
    with loading("--host", service.url, *args, "--run-time", "10m", "--report", tmp_path) as process:
        wait_for(lambda: answered_requests(service.url) >= before + 200)
        (master,) = children(process.pid)
        slow = children(master)[0]
        os.kill(slow, signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        time.sleep(1.5)
        os.kill(slow, signal.SIGCONT)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, errors
    assert_all_are_counted(read_report(tmp_path), answered_requests(service.url) - before)


def assert_all_are_counted(report: dict[str, Any], by_service: float) -> None:
    """The workers' counts equal the service's, except for the first requests and those open at the end."""
    counts = report["counts"]
    assert report["errors"] == {}
    assert 20 < counts["answered"] <= by_service
    assert counts["answered"] >= by_service - 20
    (measured,) = report["accuracy"].values()
    assert measured["answers"] == counts["answered"]
    assert counts["frames"] > 0
    assert (report["workers"], report["lost_workers"]) == (2, 0)
