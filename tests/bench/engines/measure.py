"""Accuracy, size, memory and latency of candidates."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from build.packing import pack
from service.bundle.manifest import BASELINE, Comparison, Proportion
from service.inference.classifier import softmax
from service.measuring.evaluation import compare, hits
from tests.bench.engines.candidates import Candidate
from tests.bench.engines.runner import Memory, running

THREADS = (1, 2)
# A candidate's turn: long enough to have its weights in the caches, short enough that a slow moment of the
# machine hits all of them.
TURN = 10
_WARM_UP = 20


@dataclass(frozen=True)
class Answered:
    """The memory of a candidate's process after its warm-up; its answers: float32[images, classes]."""

    probabilities: NDArray[np.float32]
    memory: Memory


@dataclass(frozen=True)
class Quality:
    """The accuracy on labelled images; `comparison`: with LiteRT's fp32."""

    top1: Proportion
    top5: Proportion
    comparison: Comparison


@dataclass(frozen=True)
class Size:
    """The bytes of a candidate's files, and if each is packed by Zstandard like a variant of a bundle."""

    bytes: int
    packed: int


def answers(candidate: Candidate, warm_up: Path, pixels: Path, scratch: Path) -> Answered:
    """Return a candidate's answers to the pixels in a file, with one thread, after a warm-up on another.

    Both hold uint8[n, height, width, 3]. No other candidate's process runs meanwhile: they would share pages.
    """
    with running(candidate.engine, candidate.files[0], 1, warm_up) as runner:
        runner.time(_WARM_UP)
        memory = runner.memory()
        runner.answer(pixels, scratch)
    return Answered(softmax(np.load(scratch)), memory)


def quality(
    baseline: NDArray[np.float32], probabilities: NDArray[np.float32], labels: NDArray[np.intp]
) -> Quality:
    """Return the quality of probabilities, compared with the baseline's, both float32[images, classes].

    `labels`: the true indices [images].
    """
    return Quality(
        hits(probabilities, labels, 1),
        hits(probabilities, labels, 5),
        compare(BASELINE, baseline, probabilities, labels),
    )


def size(candidate: Candidate) -> Size:
    """Return the size of all files of a candidate."""
    contents = [path.read_bytes() for path in candidate.files]
    return Size(sum(map(len, contents)), sum(len(pack(content)) for content in contents))


def latencies(
    candidates: Sequence[Candidate], pixels: Path, rounds: int
) -> Mapping[tuple[str, int], list[float]]:
    """Return the seconds of inferences by candidate and number of threads.

    All take turns, each in its own process, with the pixels of the file, uint8[n, height, width, 3].
    """
    seconds: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as stack:
        runners = {
            (candidate.name, threads): stack.enter_context(
                running(candidate.engine, candidate.files[0], threads, pixels)
            )
            for candidate, threads in product(candidates, THREADS)
        }
        for runner in runners.values():
            runner.time(_WARM_UP)
        shown: Iterable[int] = tqdm(range(rounds), desc="latency", unit="round", dynamic_ncols=True)
        for _ in shown:
            for key, runner in runners.items():
                seconds.setdefault(key, []).extend(runner.time(TURN))
    return seconds
