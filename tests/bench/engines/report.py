"""The comparison as tables in Markdown, and whether the claim holds."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version

import numpy as np

from service.results.words import divergence_in_words, percent
from tests.bench.engines.measure import THREADS, Quality, Size
from tests.bench.engines.runner import Memory
from tests.bench.markdown import table

OURS = "LiteRT qat"
CLAIM = 1.5
"""How many times as fast as another engine's int8 LiteRT's is claimed to be."""
PACKAGES = ("ai-edge-litert", "onnxruntime", "openvino", "nncf", "tf2onnx")

Seconds = Mapping[tuple[str, int], Sequence[float]]
"""Of inferences, by candidate and number of threads."""


def quality_table(qualities: Mapping[str, Quality], sizes: Mapping[str, Size]) -> str:
    """Return a row for each candidate: accuracy, divergence from LiteRT's fp32, and size."""
    head = ["", "top-1 % (95 %)", "top-5 % (95 %)", "agreement % (95 %)", "KL, nats", "MB", "MB packed"]
    rows = [
        [
            name,
            percent(found.top1),
            percent(found.top5),
            percent(found.comparison.agreement),
            divergence_in_words(found.comparison),
            f"{sizes[name].bytes / 1e6:.1f}",
            f"{sizes[name].packed / 1e6:.1f}",
        ]
        for name, found in qualities.items()
    ]
    return table(head, rows)


def speed_table(seconds: Seconds, memories: Mapping[str, Memory]) -> str:
    """Return a row for each candidate: latency with one thread and with two, and memory."""
    head = [
        "",
        *(
            f"{what}, {threads} thread{'s' * (threads > 1)}"
            for threads in THREADS
            for what in ("p50 ms", "p99 ms", f"× {OURS}")
        ),
        "RSS MB",
        "PSS MB",
    ]
    rows = [
        [
            name,
            *(cell for threads in THREADS for cell in _times(seconds, name, threads)),
            f"{memory.rss / 1e6:.0f}",
            f"{memory.pss / 1e6:.0f}",
        ]
        for name, memory in memories.items()
    ]
    return table(head, rows)


def verdict(seconds: Seconds, others: Sequence[str]) -> str:
    """Return a line for each of the `others`: whether LiteRT's int8 is as much faster as claimed."""
    lines = []
    for name in others:
        ratios = [_slower(seconds, name, threads) for threads in THREADS]
        ratios_text = " and ".join(
            f"{ratio:.2f} times with {threads} thread{'s' * (threads > 1)}"
            for ratio, threads in zip(ratios, THREADS, strict=True)
        )
        held = "holds" if min(ratios) >= CLAIM else "does not hold"
        lines.append(f"- {OURS} is {ratios_text} as fast as {name}: the claim of {CLAIM} {held}.")
    return "\n".join(lines)


def versions() -> str:
    """Return the versions of the engines and converters."""
    return ", ".join(f"{package} {version(package)}" for package in PACKAGES)


def _times(seconds: Seconds, name: str, threads: int) -> list[str]:
    p50, p99 = np.percentile(seconds[name, threads], (50, 99))
    return [f"{1e3 * p50:.2f}", f"{1e3 * p99:.2f}", f"{_slower(seconds, name, threads):.2f}"]


def _slower(seconds: Seconds, name: str, threads: int) -> float:
    """Return the median latency as a multiple of LiteRT's int8 with as many threads."""
    return float(np.median(seconds[name, threads]) / np.median(seconds[OURS, threads]))
