"""Latency, load time and memory of a bundle's variants, side by side on this machine."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from service.bundle.folder import Bundle
from service.bundle.manifest import BASELINE
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate
from service.inference.footprint import Footprint, measure_footprint
from service.inference.golden import read_golden_vectors
from service.inference.loading import load_variant
from service.inference.runtime import RUNTIME
from service.inference.share import GraphShare

# Inferences per turn: enough to have the variant's weights in the caches, and so few that a slow moment of
# the machine affects all variants alike.
_TURN = 10
# With an unlucky placement of its weights in memory, a loaded variant is up to 40 % slower.
_ROUNDS_A_LOAD = 2

# Wraps the iteration over rounds, to show progress.
Progress = Callable[[Sequence[int]], Iterable[int]]

# A counter's joules so far; NaN if it can't be read.
Joules = Callable[[], float]


@dataclass(frozen=True)
class VariantBenchmark:
    """One variant on this machine, with one thread.

    Seconds are those of one inference, from pixels to probabilities, without decoding the image.
    `share` is what the delegate took of the graph; `speedup` is `against`'s median divided by this one's.
    `joules` are per inference, and include whatever else the machine did; None without a counter.
    """

    variant: str
    bytes: int
    runtime: str
    delegate: str
    share: GraphShare
    runs: int
    p50_seconds: float
    p99_seconds: float
    mean_seconds: float
    against: str
    speedup: float
    load_seconds: float
    resident_bytes: int | None
    joules: float | None


@dataclass(frozen=True)
class Runs:
    """A variant's inferences: the seconds of each, and the joules of each turn."""

    seconds: list[float] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)


def silent(rounds: Sequence[int]) -> Iterable[int]:
    """Show nothing; a `Progress`."""
    return rounds


def no_counter() -> float:
    """Return 0 always; the `Joules` of a machine without a counter."""
    return 0.0


def benchmark(
    bundle: Bundle,
    variants: Sequence[str],
    *,
    runs: int = 200,
    delegate: Delegate = Delegate.XNNPACK,
    progress: Progress = silent,
    joules: Joules = no_counter,
) -> list[VariantBenchmark]:
    """Measure variants on the bundle's golden pixels, at least `runs` inferences each.

    They are compared with `fp32` if that is one of them, otherwise with the first. `runs` is rounded up to
    whole turns of ten. After every second turn a variant is loaded again, except with an external delegate,
    which may compile the graph for minutes.

    Raises:
        BundleError, OperatorError, DelegateError, SelfTestError: a variant can't be loaded.
        StartError: it can't be loaded in a separate process.
    """
    classifiers = [load_variant(bundle, name, delegate).classifiers[0] for name in variants]
    footprints = {name: measure_footprint(bundle, name, delegate) for name in variants}
    rounds = range(-(-runs // _TURN))
    rounds_a_load = _ROUNDS_A_LOAD if delegate.is_built_in else None
    measured = measure(classifiers, rounds, progress, joules=joules, rounds_a_load=rounds_a_load)
    against = BASELINE if BASELINE in variants else variants[0]
    median = float(np.median(measured[against].seconds))
    return [
        _result(classifier, measured[classifier.variant], footprints[classifier.variant], against, median)
        for classifier in classifiers
    ]


def measure(
    classifiers: list[Classifier],
    rounds: Sequence[int],
    progress: Progress = silent,
    turn: int = _TURN,
    joules: Joules = no_counter,
    rounds_a_load: int | None = None,
) -> dict[str, Runs]:
    """Measure inferences of each variant's golden pixels, `turn` of them in each round.

    After every `rounds_a_load` rounds the classifiers in the list are replaced by freshly loaded twins.
    """
    pixels = {c.variant: read_golden_vectors(c.bundle, c.variant).pixels for c in classifiers}
    measured = {c.variant: Runs() for c in classifiers}
    for number in progress(rounds):
        if rounds_a_load and number and number % rounds_a_load == 0:
            _load_anew(classifiers)
        for classifier in classifiers:
            runs = measured[classifier.variant]
            before = joules()
            runs.seconds.extend(_turn(classifier, pixels[classifier.variant], turn))
            runs.joules.append(joules() - before)
    return measured


def _load_anew(classifiers: list[Classifier]) -> None:
    # One by one, so that at most one more is in memory.
    for place, classifier in enumerate(classifiers):
        classifiers[place] = classifier.twin()


def _turn(classifier: Classifier, pixels: NDArray[np.uint8], count: int) -> list[float]:
    seconds = []
    # The first does not count: it finds the caches full of another variant's weights.
    for image in islice(cycle(pixels), 1 + count):
        start = perf_counter()
        classifier.probabilities(image)
        seconds.append(perf_counter() - start)
    return seconds[1:]


def _result(
    classifier: Classifier, runs: Runs, footprint: Footprint, against: str, median: float
) -> VariantBenchmark:
    p50, p99 = (float(value) for value in np.percentile(runs.seconds, (50, 99)))
    return VariantBenchmark(
        variant=classifier.variant,
        bytes=classifier.bundle.variant(classifier.variant).bytes,
        runtime=RUNTIME,
        delegate=str(classifier.delegate),
        share=classifier.share,
        runs=len(runs.seconds),
        p50_seconds=p50,
        p99_seconds=p99,
        mean_seconds=float(np.mean(runs.seconds)),
        against=against,
        speedup=median / p50,
        load_seconds=footprint.load_seconds,
        resident_bytes=footprint.resident_bytes,
        joules=_joules(runs),
    )


def _joules(runs: Runs) -> float | None:
    """Return the joules per inference, if the counter is fine enough to have advanced in every turn."""
    if not all(joules > 0 for joules in runs.joules):
        return None
    # Each turn has one inference more than it counts.
    return sum(runs.joules) / (len(runs.seconds) + len(runs.joules))
