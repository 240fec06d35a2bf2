"""Run `python -m loadtest`, and read what it reports."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
from PIL import Image

from tests.system.processes import ROOT, WITH_SIGNALS, environment

SECONDS = 300
# Goals that are met however busy the machine is.
LENIENT = ["--slo-p50", "10000", "--slo-p99", "20000", "--slo-late", "1"]
COLOURS = {"c01": (0, 0, 255), "c02": (0, 255, 0), "c03": (255, 0, 0)}


def write_photos(folder: Path) -> Path:
    """Write photos of three colours, two of each, and one more in the folder of a wrong colour."""
    for class_id, colour in COLOURS.items():
        (folder / class_id).mkdir()
        for side in (40, 60):
            Image.new("RGB", (side, side), colour).save(folder / class_id / f"{side}.png")
    Image.new("RGB", (50, 50), COLOURS["c03"]).save(folder / "c01" / "wrong.png")
    return folder


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "loadtest", *map(str, arguments)]


def load(
    *arguments: str | Path, seconds: float = SECONDS, variables: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        command(*arguments),
        cwd=ROOT,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


@contextmanager
def loading(
    *arguments: str | Path, folder: Path = ROOT, prefix: Sequence[str] = WITH_SIGNALS
) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(  # noqa: S603
        [*prefix, *command(*arguments)],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def wait_for_progress(process: "subprocess.Popen[str]") -> None:
    """Wait until a load test has shown a line of progress: its users are sending."""
    assert process.stderr is not None
    shown = ""
    while "answers/s" not in shown:
        more = process.stderr.readline()
        assert more, shown
        shown += more


def children(pid: int) -> list[int]:
    """Return a process's running children in the order of their start: first the service, if there is one."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def read_report(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def answered_requests(url: str) -> float:
    text = httpx.get(f"{url}/metrics", timeout=60).text
    counts = re.findall(r'^edgewise_requests_total\{.*classify".*status="200".*\} (\S+)', text, re.MULTILINE)
    return sum(map(float, counts))
