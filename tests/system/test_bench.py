"""`python -m tests.bench` prints its tables; no speed is asserted here."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.bundle.folder import Bundle
from tests.api.running import photo
from tests.bench.paired import UNOBSERVED
from tests.bench.server import serving
from tests.system.processes import ROOT

pytestmark = [
    pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is absent"),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores"),
]
SHORT = ["--seconds", "1", "--rounds", "1", "--connections", "2", "--photos", "small"]
PARTS = [
    "--throughput",
    "--latency",
    "--shadow",
    "--observing",
    "--overload",
    "2",
    "--slow",
    "10",
    "--memory",
    "40",
]


@pytest.fixture(scope="module")
def bench_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """The printed output and the written results of one short run of all parts."""
    file = tmp_path_factory.mktemp("bench") / "results.json"
    command = [sys.executable, "-m", "tests.bench", *SHORT, *PARTS, "--json", str(file)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert result.returncode == 0, result.stderr
    return result.stdout, json.loads(file.read_text())


def test_every_part_prints_a_table(bench_run: tuple[str, dict[str, Any]]) -> None:
    tables = re.findall(r"(?:^\|.*\|\n)+", bench_run[0], re.MULTILINE)
    assert len(tables) == 8
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
        assert not re.search(r"\b(nan|inf)\b", table)


def test_loops_and_servers_answer_and_take_processor_time(bench_run: tuple[str, dict[str, Any]]) -> None:
    results = bench_run[1]["throughput"]
    assert [(r["name"], r["workers"], r["connections"]) for r in results] == [
        ("bare loop", 1, None),
        ("plain Pillow loop", 1, None),
        ("least server", 1, 2),
        ("service", 1, 2),
        ("service", 2, 8),
    ]
    for (measured,) in (result["rounds"] for result in results):
        assert measured["answered"] > 0
        assert measured["seconds"] > 0.9
        assert 0 < measured["cpu_seconds"] < 2.5 * measured["seconds"]
        assert (measured["refused"], measured["failed"]) == (0, 0)


def test_evenly_paced_requests_are_answered(bench_run: tuple[str, dict[str, Any]]) -> None:
    latency = bench_run[1]["latency"]
    assert latency["requests"] == pytest.approx(3 * latency["rate"], abs=1)
    assert 0 <= latency["errors"] < latency["requests"]
    assert 0 < latency["p50"] <= latency["p99"]


@pytest.mark.parametrize("part", ["shadow", "observing"])
def test_two_services_take_turns(bench_run: tuple[str, dict[str, Any]], part: str) -> None:
    (pair,) = bench_run[1][part]
    assert (pair["what"], pair["connections"]) == (part, 2)
    for measured in (*pair["without"], *pair["having"]):
        assert measured["answered"] > 0
        assert (measured["refused"], measured["failed"]) == (0, 0)


def test_the_unobserved_service_answers_and_counts_nothing(colours: Bundle, tmp_path: Path) -> None:
    cores = frozenset(os.sched_getaffinity(0))
    settings = {"bundle": colours.path, "shadow_variant": "fp32", "shadow_ratio": 1}
    with (
        serving(tmp_path, cores, settings, program=UNOBSERVED) as server,
        httpx.Client(base_url=f"http://{server.host}:{server.port}", timeout=60) as client,
    ):
        assert client.post("/v1/classify", content=photo("red")).status_code == 200
        assert client.get("/readyz").status_code == 200
        metrics = client.get("/metrics")
        assert (metrics.status_code, metrics.text) == (200, "")


def test_overload_is_refused_with_a_time_to_retry(bench_run: tuple[str, dict[str, Any]]) -> None:
    overload, afterwards = bench_run[1]["overload"], bench_run[1]["afterwards"]
    assert sum(overload["statuses"].values()) == overload["requests"]
    assert overload["statuses"]["200"] > 0
    assert overload["with_retry_after"] == overload["statuses"].get("429", 0)
    assert overload["memory_peak"] >= overload["memory_before"] > 0
    assert sum(afterwards["served"].values()) <= afterwards["clients"]


def test_a_client_is_measured_alone_and_among_slow_ones(bench_run: tuple[str, dict[str, Any]]) -> None:
    slow = bench_run[1]["slow"]
    assert slow["without"]["requests"] == slow["among"]["requests"] > 0
    assert 0 < slow["among"]["p50"] <= slow["among"]["p99"]


def test_memory_is_measured_on_a_service_that_answered(bench_run: tuple[str, dict[str, Any]]) -> None:
    memory = bench_run[1]["memory"]
    assert (memory["first_requests"], memory["requests"], memory["failed"]) == (2, 40, 0)
    assert 0 < memory["when_ready"] <= memory["peak"]
    assert memory["ready_seconds"] > 0


def test_without_wrk_it_says_what_to_do(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.bench"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == "wrk, which generates the load, is missing: install it (apt-get install wrk)\n"
