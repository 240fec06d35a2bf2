"""The benchmark's tables in Markdown; a value that misses its target is bold."""

import platform
from collections.abc import Sequence
from math import inf
from pathlib import Path
from statistics import median

from tests.bench.latency import SHARE, Latency
from tests.bench.markdown import table
from tests.bench.measured import Measured, median_cores, median_cpu, median_rate
from tests.bench.memory import Memory
from tests.bench.overload import THEN, TIMES, TRIES, Afterwards, Overload
from tests.bench.paired import Paired
from tests.bench.photos import Photo
from tests.bench.sender import LOST, OK, UNSENT
from tests.bench.slow import Client, SlowSenders
from tests.bench.throughput import LOOP, PILLOW, SERVICE, Result

MIN_OF_LOOP = 0.94
MIN_OF_PILLOW = 1.05
MAX_CPU = 1.06
MAX_TAIL = 2.5
MIN_SERVED = 0.95
MAX_SLOWER = 2.0
MIN_OF_PAIR = 0.98
MAX_READY_SECONDS = 1.0
MAX_MEMORY_BYTES = 120e6
# A loop that never waits uses nearly all of its core, unless other processes run there too.
UNDISTURBED = 0.97
_DISTURBED = (
    "**Other processes used {:.0%} of a loop's core: requests/s and their ratios mean nothing here, and"
    " processor time little. Measure again when the machine is idle.**"
)
# Two measurements of an unchanged process differ by less.
MAX_GROWTH = 0.02


def at_least(value: float, bound: float, digits: int = 2) -> str:
    """Return the number, bold if it is less than the bound."""
    return bold_unless(f"{value:.{digits}f}", value >= bound)


def at_most(value: float, bound: float, digits: int = 2) -> str:
    """Return the number, bold if it is more than the bound."""
    return bold_unless(f"{value:.{digits}f}", value <= bound)


def bold_unless(text: str, held: bool) -> str:
    """Return the text, bold if its target was missed."""
    return text if held else f"**{text}**"


def throughput_table(results: Sequence[Result]) -> str:
    """Return a row for each subject, with ratios of medians; a line below says if they mean nothing."""
    head = [
        "photo",
        "what",
        "workers",
        "connections",
        "requests/s",
        f"of the bare loop (≥ {MIN_OF_LOOP})",
        f"of the Pillow loop (≥ {MIN_OF_PILLOW})",
        "CPU %",
        "CPU ms a request",
        f"of the bare loop's (≤ {MAX_CPU})",
        "refused %",
        "failed",
    ]
    shown = table(head, [_throughput_row(result, results) for result in results])
    loops = [median_cores(result.rounds) for result in results if not result.connections]
    return shown if min(loops) >= UNDISTURBED else f"{shown}\n\n{_DISTURBED.format(1 - min(loops))}"


def _throughput_row(result: Result, results: Sequence[Result]) -> list[str]:
    loops = {r.name: r.rounds for r in results if r.photo == result.photo and not r.connections}
    served = bool(result.connections)
    targets = (MIN_OF_LOOP, MIN_OF_PILLOW, MAX_CPU) if result.name == SERVICE else (0, 0, inf)
    min_of_loop, min_of_pillow, max_cpu = targets
    rate, cpu = median_rate(result.rounds), median_cpu(result.rounds)
    # Two workers share a core with the load, so only their processor time can be compared.
    alone = served and result.workers == 1
    return [
        result.photo,
        result.name,
        str(result.workers) if served else "",
        str(result.connections or ""),
        f"{rate:.1f}" if alone or not served else "",
        at_least(rate / median_rate(loops[LOOP]), min_of_loop) if alone else "",
        at_least(rate / median_rate(loops[PILLOW]), min_of_pillow) if alone else "",
        f"{100 * median_cores(result.rounds):.0f}",
        f"{cpu * 1e3:.2f}",
        at_most(cpu / median_cpu(loops[LOOP]), max_cpu) if served else "",
        _refused(result.rounds) if served else "",
        str(sum(measured.failed for measured in result.rounds)) if served else "",
    ]


def _refused(rounds: Sequence[Measured]) -> str:
    refused = sum(measured.refused for measured in rounds)
    total = refused + sum(measured.answered for measured in rounds)
    return f"{100 * refused / total:.1f}" if total else ""


def latency_table(result: Latency) -> str:
    """Return one row: the percentiles, and how late the sender was."""
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
    row = [
        result.photo,
        f"{result.rate:.1f}",
        str(result.requests),
        f"{result.p50 * 1e3:.2f}",
        f"{result.p99 * 1e3:.2f}",
        at_most(result.p99 / result.p50, MAX_TAIL),
        at_most(result.errors, 0, 0),
        f"{result.late_p99 * 1e3:.2f}",
    ]
    return table(head, [row])


def overload_table(result: Overload) -> str:
    """Return what happened to the requests, and what it cost."""
    of_all = {status: f"{100 * count / result.requests:.1f}" for status, count in result.statuses.items()}
    rows = [
        ["offered, requests/s", f"{TIMES * result.capacity:.0f}", f"{TIMES} × {result.capacity:.1f}"],
        ["sent, requests/s", f"{result.sent_rate:.0f}", "offered"],
        ["accepted (200) %", of_all.get(OK, "0"), ""],
        ["refused (429) %", of_all.get(429, "0"), ""],
        ["of these with Retry-After", str(result.with_retry_after), str(result.statuses.get(429, 0))],
        ["not sent %", of_all.get(UNSENT, "0"), ""],
        ["anything else", _others(result), "none"],
        ["accepted, requests/s", f"{result.accepted_rate:.1f}", f"{result.capacity:.1f}"],
        ["accepted: within the deadline %", f"{100 * result.in_time:.2f}", "100"],
        ["accepted: p50 ms", f"{result.accepted_p50 * 1e3:.0f}", ""],
        ["accepted: p99 ms", f"{result.accepted_p99 * 1e3:.0f}", ""],
        ["CPU %", f"{100 * result.cores:.0f}", ""],
        ["memory before, MB", _megabytes(result.memory_before), ""],
        ["memory at most, MB", _megabytes(result.memory_peak), ""],
    ]
    return table([f"{result.photo}, {result.seconds:g} s of overload", "measured", "to compare with"], rows)


def _others(result: Overload) -> str:
    usual = (OK, 429, UNSENT)
    others = [
        f"{count} lost" if status == LOST else f"{count} with status {status}"
        for status, count in result.statuses.items()
        if status not in usual
    ]
    return bold_unless(", ".join(others) or "none", not others)


def afterwards_table(result: Afterwards) -> str:
    """Return how many clients were served at each try."""
    served = [f"{100 * result.served.get(number, 0) / result.clients:.1f}" for number in range(1, TRIES + 1)]
    head = [
        f"after the overload, requests/s ({THEN:.0%} of what it can)",
        "clients",
        *(f"served at try {number} %" for number in range(1, TRIES + 1)),
        f"served (≥ {MIN_SERVED})",
    ]
    row = [f"{result.rate:.1f}", str(result.clients), *served, at_least(result.share, MIN_SERVED, 3)]
    return table(head, [row])


def slow_senders_table(result: SlowSenders) -> str:
    """Return the client's results alone, then among slow senders."""
    head = [
        f"{result.photo}, a client at {result.rate:.1f} requests/s",
        "requests",
        "p50 ms",
        "p99 ms",
        "refused (0)",
        "failed (0)",
    ]
    p50, p99 = (
        at_most(ratio, MAX_SLOWER)
        for ratio in (result.among.p50 / result.without.p50, result.among.p99 / result.without.p99)
    )
    return table(
        head,
        [
            ["alone", *_client_cells(result.without)],
            [f"among {result.connections} that send a byte a second", *_client_cells(result.among)],
            [f"ratio (≤ {MAX_SLOWER:g})", "", p50, p99, "", ""],
            ["cut off meanwhile", str(result.cut_off), "", "", "", ""],
        ],
    )


def _client_cells(client: Client) -> list[str]:
    return [
        str(client.requests),
        f"{client.p50 * 1e3:.2f}",
        f"{client.p99 * 1e3:.2f}",
        at_most(client.refused, 0, 0),
        at_most(client.failed, 0, 0),
    ]


def memory_table(result: Memory) -> str:
    """Return the start time and the memory of a service with one worker."""
    return table(
        [
            "photo",
            f"ready after s (< {MAX_READY_SECONDS:g})",
            "MB when ready",
            f"MB after {result.first_requests} requests",
            f"MB after {result.requests} (≤ {MAX_MEMORY_BYTES / 1e6:.0f})",
            f"growth (≤ {MAX_GROWTH})",
            "MB at most",
            "failed (0)",
        ],
        [
            [
                result.photo,
                at_most(result.ready_seconds, MAX_READY_SECONDS),
                _megabytes(result.when_ready),
                _megabytes(result.after_first),
                bold_unless(_megabytes(result.after_all), result.after_all <= MAX_MEMORY_BYTES),
                at_most(result.growth, MAX_GROWTH, 3),
                _megabytes(result.peak),
                at_most(result.failed, 0, 0),
            ]
        ],
    )


def paired_table(results: Sequence[Paired]) -> str:
    """Return a row for each number of connections: the rounds' median ratios, with minimum and maximum."""
    head = [
        "photo",
        "what",
        "connections",
        "requests/s without",
        "with",
        f"ratio (≥ {MIN_OF_PAIR})",
        "from – to",
        "CPU a request: ratio",
        "from – to",
        "failed (0)",
    ]
    return table(head, [_paired_row(result) for result in results])


def _paired_row(result: Paired) -> list[str]:
    return [
        result.photo,
        result.what,
        str(result.connections),
        f"{median_rate(result.without):.1f}",
        f"{median_rate(result.having):.1f}",
        at_least(median(result.rates), MIN_OF_PAIR, 3),
        _range(result.rates),
        f"{median(result.cpu):.3f}",
        _range(result.cpu),
        at_most(sum(measured.failed for measured in (*result.without, *result.having)), 0, 0),
    ]


def _range(ratios: Sequence[float]) -> str:
    return f"{min(ratios):.3f} – {max(ratios):.3f}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


def heading(variant: str, photos: Sequence[Photo], rounds: int, seconds: int) -> str:
    """Return what was measured, and on which machine."""
    return (
        f"Variant `{variant}`; photos: {', '.join(map(str, photos))}. {_machine()}."
        f" {rounds} rounds, {seconds} s each; bold: misses its target."
    )


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return ", ".join(filter(None, [model, platform.machine(), f"Python {platform.python_version()}"]))
