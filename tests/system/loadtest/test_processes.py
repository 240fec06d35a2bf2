"""Load tests of several processes, whose load and goals are one."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.system.loadtest.loads import (
    LENIENT,
    SECONDS,
    answered,
    children,
    load,
    loading,
    told,
    wait_for_progress,
)
from tests.system.processes import ROOT, Service, wait_for
from tests.system.prometheus import free_port


@pytest.fixture
def master() -> list[str]:
    """The options of one that waits for two workers."""
    bound = ["--master-bind-host", "127.0.0.1", "--master-bind-port", str(free_port())]
    return ["--master", *bound, "--expect-workers", "2"]


@pytest.fixture
def worker(master: list[str]) -> list[str]:
    """The options of one that finds it."""
    port = master[master.index("--master-bind-port") + 1]
    return ["--worker", "--master-host", "127.0.0.1", "--master-port", port]


def test_processes_report_as_one(service: Service, photos: Path, tmp_path: Path) -> None:
    before = answered(service.url)
    given = ("--photos", photos, "--processes", "2", "--run-time", "3s", *LENIENT)
    result = load("--host", service.url, *given, "--report", tmp_path)
    assert result.returncode == 0, result.stderr
    assert_all_are_there(told(tmp_path), answered(service.url) - before)


def test_two_tests_of_several_processes_run_at_once(service: Service, photos: Path, tmp_path: Path) -> None:
    given = ("--photos", photos, "--processes=2", "--run-time", "3s", *LENIENT, "--host", service.url)
    with (
        loading(*given, "--report", tmp_path / "one") as one,
        loading(*given, "--report", tmp_path / "other") as other,
    ):
        for process in (one, other):
            _, errors = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, errors
    for name in ("one", "other"):
        assert told(tmp_path / name)["errors"] == {}
        assert told(tmp_path / name)["counts"]["answered"] > 10


def test_workers_of_their_own_report_to_their_master(
    service: Service, photos: Path, tmp_path: Path, master: list[str], worker: list[str]
) -> None:
    before = answered(service.url)
    slow = ("--slo-p50", "0.001")
    given = ("--host", service.url, "--photos", photos, "--run-time", "3s", *LENIENT, *slow)
    with (
        loading(*master, *given, "--report", tmp_path) as process,
        loading(*worker, "--photos", photos),
        loading(*worker, "--photos", photos),
    ):
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1, errors
    assert "edgewise: p50: " in errors
    assert_all_are_there(told(tmp_path), answered(service.url) - before)


def test_a_worker_that_can_not_begin_ends_the_test(
    service: Service,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    master: list[str],
    worker: list[str],
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # As on machines of their own: each worker looks for the master's photos where it runs itself.
    given = ("--host", service.url, "--photos", photos.name, "--run-time", "30s", *LENIENT)
    with (
        loading(*master, *given, "--report", tmp_path / "report", folder=photos.parent) as process,
        loading(*worker, folder=photos.parent),
        loading(*worker, folder=tmp_path),
    ):
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 2, errors
    assert f"a worker can't start: {photos.name} can't be read" in errors


def test_workers_that_do_not_come_are_not_waited_for_without_end(
    service: Service, photos: Path, tmp_path: Path, master: list[str]
) -> None:
    given = ("--host", service.url, "--photos", photos, "--expect-workers-max-wait", "2")
    result = load(*master, *given, "--report", tmp_path)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("waiting for 2 workers\n")
    assert "Gave up waiting for workers to connect" in result.stderr


@pytest.mark.parametrize("killed", [1, 2])
def test_workers_that_are_lost_fail_the_test(
    service: Service, photos: Path, tmp_path: Path, killed: int
) -> None:
    given = ("--photos", photos, "Camera", "--users", "4", "--processes", "2", "--run-time", "16s", *LENIENT)
    with loading("--host", service.url, *given, "--report", tmp_path) as process:
        wait_for_progress(process)
        (master,) = children(process.pid)
        for worker in children(master)[:killed]:
            os.kill(worker, signal.SIGKILL)
        output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1, errors
    line = f"workers: {killed} of 2 load workers were lost, with their share of the load: FAILED"
    assert f"- {line}\n" in output
    assert f"edgewise: {line}\n" in errors
    assert told(tmp_path)["lost_workers"] == killed


def test_a_worker_that_is_lost_at_the_very_end_is_missed(
    service: Service, photos: Path, tmp_path: Path
) -> None:
    given = ("--photos", photos, "Camera", "--users", "4", "--processes", "2", "--run-time", "10m", *LENIENT)
    with loading("--host", service.url, *given, "--report", tmp_path) as process:
        wait_for_progress(process)
        (master,) = children(process.pid)
        os.kill(children(master)[0], signal.SIGKILL)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, errors
    assert told(tmp_path)["lost_workers"] == 1


def test_what_a_slow_worker_counted_last_is_in_the_report(
    service: Service, photos: Path, tmp_path: Path
) -> None:
    before = answered(service.url)
    given = ("--photos", photos, "Camera", "--users", "8", "--fps", "20", "--processes", "2", *LENIENT)
    with loading("--host", service.url, *given, "--run-time", "10m", "--report", tmp_path) as process:
        wait_for(lambda: answered(service.url) >= before + 200)
        (master,) = children(process.pid)
        slow = children(master)[0]
        os.kill(slow, signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        time.sleep(1.5)
        os.kill(slow, signal.SIGCONT)
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, errors
    assert_all_are_there(told(tmp_path), answered(service.url) - before)


def assert_all_are_there(report: dict[str, Any], by_service: float) -> None:
    """The workers' counts are the service's, but for what was under way at the end, and the first ones."""
    counts = report["counts"]
    assert report["errors"] == {}
    assert 20 < counts["answered"] <= by_service
    assert counts["answered"] >= by_service - 20
    (measured,) = report["accuracy"].values()
    assert measured["answers"] == counts["answered"]
    assert counts["frames"] > 0
    assert (report["workers"], report["lost_workers"]) == (2, 0)
