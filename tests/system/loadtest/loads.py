"""`python -m loadtest` as tests run it, and what it left."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from tests.system.processes import ROOT, WITH_SIGNALS, environment

SECONDS = 300
# Whatever the machine is doing meanwhile.
LENIENT = ["--slo-p50", "10000", "--slo-p99", "20000", "--slo-late", "1"]
COLOURS = {"c01": (0, 0, 255), "c02": (0, 255, 0), "c03": (255, 0, 0)}


def write_photos(folder: Path) -> Path:
    """Photos of three colours, two of each, and one in the folder of another colour."""
    for class_id, colour in COLOURS.items():
        (folder / class_id).mkdir()
        for side in (40, 60):
            Image.new("RGB", (side, side), colour).save(folder / class_id / f"{side}.png")
    Image.new("RGB", (50, 50), COLOURS["c03"]).save(folder / "c01" / "wrong.png")
    return folder


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "loadtest", *map(str, arguments)]


def load(*arguments: str | Path, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        command(*arguments),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


@contextmanager
def loading(
    *arguments: str | Path, folder: Path = ROOT, through: Sequence[str] = WITH_SIGNALS
) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(  # noqa: S603
        [*through, *command(*arguments)],
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
    """Return when a load test has shown a line of its progress: its users send."""
    assert process.stderr is not None
    shown = ""
    while "answers/s" not in shown:
        more = process.stderr.readline()
        assert more, shown
        shown += more


def children(pid: int) -> list[int]:
    """The processes that it started and that are there, in that order: the service, where it has one."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def told(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def answered(url: str) -> float:
    text = httpx.get(f"{url}/metrics", timeout=60).text
    counts = re.findall(r'^edgewise_requests_total\{.*classify".*status="200".*\} (\S+)', text, re.MULTILINE)
    return sum(map(float, counts))
