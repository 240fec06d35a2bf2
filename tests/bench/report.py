"""Tables in Markdown; what misses its target is bold."""

import platform
from collections.abc import Sequence
from pathlib import Path

from tests.bench.latency import SHARE, Latency
from tests.bench.measured import Measured, median_cpu, median_rate
from tests.bench.photos import Photo
from tests.bench.throughput import LOOP, PILLOW, SERVICE, Result

MIN_OF_LOOP = 0.94
MIN_OF_PILLOW = 1.05
MAX_CPU = 1.06
MAX_TAIL = 2.5


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def at_least(value: float, bound: float, digits: int = 2) -> str:
    """The number, bold where it is less."""
    return f"{value:.{digits}f}" if value >= bound else f"**{value:.{digits}f}**"


def at_most(value: float, bound: float, digits: int = 2) -> str:
    """The number, bold where it is more."""
    return f"{value:.{digits}f}" if value <= bound else f"**{value:.{digits}f}**"


def throughput_table(results: Sequence[Result]) -> str:
    """One row a subject; ratios are of the rounds' medians."""
    head = [
        "photo",
        "what",
        "workers",
        "connections",
        "requests/s",
        f"of the bare loop (≥ {MIN_OF_LOOP})",
        f"of the Pillow loop (≥ {MIN_OF_PILLOW})",
        "CPU ms a request",
        f"of the bare loop's (≤ {MAX_CPU})",
        "refused %",
        "failed",
    ]
    return table(head, [_throughput_row(result, results) for result in results])


def _throughput_row(result: Result, results: Sequence[Result]) -> list[str]:
    loops = {r.name: r.rounds for r in results if r.photo == result.photo and r.name != SERVICE}
    service = result.name == SERVICE
    rate, cpu = median_rate(result.rounds), median_cpu(result.rounds)
    # Two workers share a core with the load: only their processor time can be compared.
    alone = service and result.workers == 1
    return [
        result.photo,
        result.name,
        str(result.workers) if service else "",
        str(result.connections or ""),
        f"{rate:.1f}" if alone or not service else "",
        at_least(rate / median_rate(loops[LOOP]), MIN_OF_LOOP) if alone else "",
        at_least(rate / median_rate(loops[PILLOW]), MIN_OF_PILLOW) if alone else "",
        f"{cpu * 1e3:.2f}",
        at_most(cpu / median_cpu(loops[LOOP]), MAX_CPU) if service else "",
        _refused(result.rounds) if service else "",
        str(sum(measured.failed for measured in result.rounds)) if service else "",
    ]


def _refused(rounds: Sequence[Measured]) -> str:
    refused = sum(measured.refused for measured in rounds)
    total = refused + sum(measured.answered for measured in rounds)
    return f"{100 * refused / total:.1f}" if total else ""


def latency_table(results: Sequence[Latency]) -> str:
    """One row a photo."""
    head = [
        "photo",
        f"requests/s ({SHARE:.0%} of what it can)",
        "requests",
        "p50 ms",
        "p99 ms",
        f"p99/p50 (≤ {MAX_TAIL})",
        "errors (0)",
        "sent late, p99 ms",
    ]
    return table(head, [_latency_row(result) for result in results])


def _latency_row(result: Latency) -> list[str]:
    return [
        result.photo,
        f"{result.rate:.1f}",
        str(result.requests),
        f"{result.p50 * 1e3:.2f}",
        f"{result.p99 * 1e3:.2f}",
        at_most(result.p99 / result.p50, MAX_TAIL),
        at_most(result.errors, 0, 0),
        f"{result.late_p99 * 1e3:.2f}",
    ]


def heading(variant: str, photos: Sequence[Photo], rounds: int, seconds: int) -> str:
    """What was measured, and on what."""
    return (
        f"Variant `{variant}`; photos: {', '.join(map(str, photos))}. {_machine()}."
        f" {rounds} rounds, {seconds} s each; bold: misses its target."
    )


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return ", ".join(filter(None, [model, platform.machine(), f"Python {platform.python_version()}"]))
