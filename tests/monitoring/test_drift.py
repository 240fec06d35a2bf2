import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.bundle.manifest import ImageSet
from service.bundle.reference import QUANTILES, Answers, Reference
from service.monitoring.drift import LEAST_ANSWERS, Drift

WINDOW = 400
CLASSES = 20
REFERENCE = Reference(
    dataset=ImageSet(name="some", images=400, sha256="0" * 64),
    crop="none",
    variants={"fp32": Answers(top1=(20,) * CLASSES, confidence=tuple(np.linspace(0, 1, QUANTILES).tolist()))},
)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def psi(registry: CollectorRegistry, signal: str, variant: str = "fp32") -> float | None:
    return value(registry, "edgewise_drift_psi", signal=signal, variant=variant)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def observe(drift: Drift, count: int, classes: int, lowest: float = 0.0) -> None:
    random = np.random.default_rng(count)
    for _ in range(count):
        drift.observe("fp32", int(random.integers(classes)), float(random.uniform(lowest, 1)))


def test_there_is_no_index_below_the_minimum_count(registry: CollectorRegistry) -> None:
    drift = Drift(registry, REFERENCE, WINDOW)
    observe(drift, LEAST_ANSWERS - 1, CLASSES)
    assert value(registry, "edgewise_drift_answers", variant="fp32") == LEAST_ANSWERS - 1
    assert psi(registry, "top1") is None
    assert psi(registry, "confidence") is None
    drift.observe("fp32", 0, 0.5)
    assert psi(registry, "top1") is not None
    assert psi(registry, "confidence") is not None


def test_answers_like_the_reference_have_a_small_index(registry: CollectorRegistry) -> None:
    observe(Drift(registry, REFERENCE, WINDOW), WINDOW, CLASSES)
    assert psi(registry, "top1") == pytest.approx(0, abs=0.1)
    assert psi(registry, "confidence") == pytest.approx(0, abs=0.1)


def test_each_signal_drifts_and_recovers_by_itself(registry: CollectorRegistry) -> None:
    drift = Drift(registry, REFERENCE, WINDOW)
    observe(drift, WINDOW, CLASSES // 2)
    assert (psi(registry, "top1") or 0) > 1
    assert psi(registry, "confidence") == pytest.approx(0, abs=0.1)
    observe(drift, WINDOW, CLASSES, lowest=0.5)
    assert psi(registry, "top1") == pytest.approx(0, abs=0.1)
    assert (psi(registry, "confidence") or 0) > 1
    assert value(registry, "edgewise_drift_answers", variant="fp32") == WINDOW


def test_without_a_reference_there_is_only_confidence(registry: CollectorRegistry) -> None:
    observe(Drift(registry, None, WINDOW), LEAST_ANSWERS, CLASSES)
    assert value(registry, "edgewise_confidence_count", variant="fp32") == LEAST_ANSWERS
    assert value(registry, "edgewise_drift_answers", variant="fp32") is None
    assert psi(registry, "top1") is None


def test_variants_are_counted_separately(registry: CollectorRegistry) -> None:
    drift = Drift(registry, REFERENCE, WINDOW)
    observe(drift, LEAST_ANSWERS, CLASSES)
    before = psi(registry, "top1")
    drift.observe("ptq", 3, 0.95)
    assert psi(registry, "top1") == before
    assert value(registry, "edgewise_confidence_count", variant="ptq") == 1
    assert value(registry, "edgewise_confidence_bucket", variant="ptq", le="0.9") == 0
    assert value(registry, "edgewise_drift_answers", variant="ptq") is None


@pytest.mark.parametrize("window", [LEAST_ANSWERS, WINDOW])
def test_the_index_is_set_up_once(registry: CollectorRegistry, window: int) -> None:
    drift = Drift(registry, REFERENCE, window)
    observe(drift, LEAST_ANSWERS, CLASSES)
    assert psi(registry, "top1") is not None
    drift.psi.clear()
    observe(drift, window, CLASSES)
    assert psi(registry, "top1") is None
