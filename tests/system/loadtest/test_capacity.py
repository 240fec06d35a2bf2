"""`python -m loadtest capacity` against a real service: which variant answers, and what a search writes."""

import re
import signal
import sys
from pathlib import Path

import httpx
import pytest

from service.bundle.folder import Bundle
from tests.system.loadtest.loads import LENIENT, SECONDS, load, loading, read_report
from tests.system.processes import Service, serving, wait_for

TOKEN = "0123456789abcdef"  # noqa: S105


def test_an_interrupted_capacity_search_writes_its_report(
    service: Service, photos: Path, tmp_path: Path
) -> None:
    search = ("capacity", "--variants", "ptq", "--start-rate", "32", "--fps", "4", "--step-seconds", "2")
    with loading(
        *search, "--host", service.url, "--photos", photos, *LENIENT, "--report", tmp_path
    ) as process:
        wait_for(lambda: len(list(tmp_path.rglob("latency.png"))) >= 2)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, errors
    assert re.search(r" ptq: 32\.0/s: held \(sent late p99 \d+\.\d ms\)$", errors, re.MULTILINE)
    assert "Ended early" in output
    assert read_report(tmp_path)["steps"][0]["rate"] == 32
    assert (tmp_path / "capacity.png").exists()


@pytest.mark.parametrize(
    ("variants", "line"),
    [
        ("ptq,fp32", "to switch it, name a file with its admin token with --admin-token-file, .*"),
        ("ptq,nosuch", "the service has no variant 'nosuch'; it has fp32, .*"),
    ],
)
def test_an_unusable_variant_is_reported_before_any_load(
    service: Service, tmp_path: Path, variants: str, line: str
) -> None:
    result = load("capacity", "--variants", variants, "--host", service.url, "--report", tmp_path)
    assert result.returncode == 2
    assert re.fullmatch(f"edgewise: (.*: )?{line}\n", result.stderr)
    assert not list(tmp_path.iterdir())


def test_a_variant_that_the_settings_exclude_is_reported_before_any_load(tmp_path: Path) -> None:
    variables = {"EDGEWISE_VARIANT_UNDER_LOAD": "ptq"}
    search = ("capacity", "--variants", "qat,ptq", "--python", sys.executable)
    result = load(*search, "--report", tmp_path, variables=variables)
    assert result.returncode == 2
    assert re.fullmatch(
        "edgewise: the service did not start: .* is ptq, which answers anyway; .*\n", result.stderr
    )
    assert not list(tmp_path.iterdir())


def test_a_wrong_token_is_reported_before_any_load(colours: Bundle, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "wrong").write_text("another-token-0123456789")
    with serving(bundle=colours.path, variant="ptq", admin_token_file=tmp_path / "token") as service:
        args = ("--variants", "ptq,fp32", "--admin-token-file", tmp_path / "wrong")
        result = load("capacity", *args, "--host", service.url, "--report", tmp_path / "report")
    assert result.returncode == 2
    assert re.fullmatch("edgewise: .*/v1/variants/active answers 401: .*\n", result.stderr)
    assert not list((tmp_path / "report").iterdir())


def test_an_interrupted_search_switches_back(colours: Bundle, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with serving(bundle=colours.path, variant="ptq", admin_token_file=tmp_path / "token") as service:
        search = ("capacity", "--variants", "fp32", "--admin-token-file", tmp_path / "token")
        steps = ("--start-rate", "32", "--fps", "4", "--step-seconds", "2")
        args = ("--host", service.url, "--photos", photos, *steps)
        report = tmp_path / "report"
        with loading(*search, *args, *LENIENT, "--report", report) as process:
            wait_for(lambda: bool(list(report.rglob("latency.png"))))
            assert active_variant(service) == "fp32"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 130, errors
        assert active_variant(service) == "ptq"


def active_variant(service: Service) -> str:
    name: str = httpx.get(f"{service.url}/v1/variants", timeout=60).json()["active"]
    return name


def test_a_rate_that_another_variant_answers_fails(photos: Path, colours: Bundle, tmp_path: Path) -> None:
    # Any wait exceeds this limit, so fp32 answers every request that has to wait.
    under_load = {"variant_under_load": "fp32", "under_load_seconds": 1e-6, "workers": 1}
    with serving(bundle=colours.path, variant="ptq", **under_load) as service:
        search = (
            "capacity",
            "--variants",
            "ptq",
            "--start-rate",
            "256",
            "--fps",
            "20",
            "--step-seconds",
            "2",
        )
        with loading(
            *search, "--host", service.url, "--photos", photos, *LENIENT, "--report", tmp_path
        ) as process:
            wait_for(lambda: bool(list(tmp_path.glob("ptq/*-again/latency.png"))))
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=SECONDS)
    line = r" ptq: \d+\.\d/s: .*variant: \d+ of \d+ answers were by fp32: FAILED( \(sent .*\))?$"
    assert re.search(line, errors, re.MULTILINE), errors
