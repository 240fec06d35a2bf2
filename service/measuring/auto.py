"""Finds the fastest of a bundle's variants on this device, among those that are accurate enough."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from service.bundle.folder import Bundle
from service.bundle.manifest import Variant, reference_evaluation
from service.errors import BundleError, DelegateError, OperatorError, SelfTestError, SettingsError
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate, Fallback
from service.inference.loading import load_variant
from service.measuring.benchmark import measure

# A comparison of two variants: short turns, so that it ends soon on a slow device.
_TURN = 5
_ROUNDS = 6
_SECONDS = 0.5
# Times within this factor don't distinguish two variants.
_SAME = 1.1


@dataclass(frozen=True)
class Duel:
    """How a variant compares with the fastest one before it: the other's median divided by its own.

    Both were measured in alternation, so this is more reliable than their seconds, which change with the
    load of the device from one minute to the next.
    """

    against: str
    speedup: float


@dataclass(frozen=True)
class Contender:
    """One variant: its reference top-1, its median seconds per inference, and why it can't be used.

    `top1` is None if the bundle does not state it, `p50_seconds` if it was not measured, `duel` if there
    was nothing to compare with, and `why_not` if the variant can be used.
    """

    variant: str
    top1: float | None
    p50_seconds: float | None
    duel: Duel | None
    why_not: str | None


def reference_top1(variant: Variant) -> float | None:
    """Return the top-1 accuracy in the variant's reference evaluation, if there is one."""
    evaluation = reference_evaluation(variant.evaluations)
    return evaluation.top1.ratio if evaluation else None


def too_inaccurate(variant: Variant, min_top1: float) -> str | None:
    """Return why a variant's reference top-1 is not at least `min_top1`; None if it is."""
    top1 = reference_top1(variant)
    if min_top1 == 0 or (top1 is not None and top1 >= min_top1):
        return None
    if top1 is None:
        return f"the bundle does not state its top-1, which must be at least {min_top1:g}"
    return f"its top-1 is {top1:.4f}, less than {min_top1:g}"


def measure_variants(
    bundle: Bundle, delegate: Delegate, min_top1: float, fallback: Fallback = Fallback.NONE
) -> tuple[str, list[Contender]]:
    """Find the fastest variant with a top-1 of at least `min_top1`; return its name, and all contenders.

    Each variant is measured in alternation with the fastest so far, so at most two are loaded. Variants whose
    times are within a tenth of the fastest count as equally fast: see `choose`.

    Raises:
        SettingsError: there is none; the message names the best one.
    """
    fastest: Classifier | None = None
    contenders = {}
    # The time of each, relative to the first.
    times: dict[str, float] = {}
    # Small ones first, so that the largest is loaded next to a smaller one.
    for name, variant in sorted(bundle.manifest.variants.items(), key=lambda item: item[1].bytes):
        top1, why_not = reference_top1(variant), too_inaccurate(variant, min_top1)
        challenger = None
        if why_not is None:
            try:
                challenger = load_variant(bundle, name, delegate, fallback).classifiers[0]
            except (BundleError, DelegateError, OperatorError, SelfTestError) as error:
                why_not = str(error)
        if challenger is None:
            contenders[name] = Contender(name, top1, None, None, why_not)
            continue
        p50_seconds, duel = _compare(fastest, challenger)
        contenders[name] = Contender(name, top1, p50_seconds, duel, None)
        times[name] = times[duel.against] / duel.speedup if duel else 1.0
        if fastest is None or times[name] < times[fastest.variant]:
            fastest = challenger
    if fastest is None:
        raise SettingsError(_none_will_do(bundle, min_top1, contenders.values()))
    measured = {name: (seconds, contenders[name].top1 or 0.0) for name, seconds in times.items()}
    chosen = choose(measured, bundle.manifest.default_variant)
    return chosen, [contenders[name] for name in bundle.manifest.variants]


def choose(measured: Mapping[str, tuple[float, float]], default: str) -> str:
    """Return the default if it is as fast as the fastest, or else the one as fast that has the best top-1.

    So nodes of one kind choose the same, and differences within chance don't decide. Values: (time, top-1).
    """
    fastest = min(time for time, _ in measured.values())
    as_fast = {name: (top1, -time) for name, (time, top1) in measured.items() if time <= fastest * _SAME}
    return default if default in as_fast else max(as_fast, key=as_fast.__getitem__)


def _compare(fastest: Classifier | None, challenger: Classifier) -> tuple[float, Duel | None]:
    """Return the challenger's median seconds, and how it compares with the fastest so far."""
    both = [challenger] if fastest is None else [fastest, challenger]
    measured = measure(both, range(_ROUNDS), _within_seconds, turn=_TURN)
    medians = {name: float(np.median(runs.seconds)) for name, runs in measured.items()}
    median = medians[challenger.variant]
    return median, None if fastest is None else Duel(fastest.variant, medians[fastest.variant] / median)


def _within_seconds(rounds: Sequence[int]) -> Iterable[int]:
    ends = perf_counter() + _SECONDS
    for number in rounds:
        yield number
        if perf_counter() > ends:
            return


def _none_will_do(bundle: Bundle, min_top1: float, contenders: Iterable[Contender]) -> str:
    best = max(contenders, key=lambda contender: contender.top1 or 0.0)
    if best.top1 is not None and best.top1 < min_top1:
        return (
            f"no variant of {bundle.path} has a top-1 of at least {min_top1:g} (EDGEWISE_MIN_TOP1): the best,"
            f" {best.variant}, has {best.top1:.4f}"
        )
    return f"no variant of {bundle.path} can be used; the best, {best.variant}, fails: {best.why_not}"
