import logging

import pytest
from prometheus_client import CollectorRegistry

from service.inference.shadow import Skip
from service.monitoring.fidelity import SKIPS, WINDOW, Fidelity


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def fidelity(registry: CollectorRegistry) -> Fidelity:
    return Fidelity(registry)


def value(registry: CollectorRegistry, name: str, variant: str = "ptq", **labels: str) -> float | None:
    return registry.get_sample_value(f"edgewise_shadow_{name}", {"variant": variant, **labels})


def test_comparisons_are_counted_by_variant(registry: CollectorRegistry, fidelity: Fidelity) -> None:
    fidelity.compared("ptq", agrees=True, kl_nats=0.002, confidence_shift=0.1)
    fidelity.compared("ptq", agrees=False, kl_nats=0.2, confidence_shift=-0.3)
    fidelity.compared("qat", agrees=True, kl_nats=0, confidence_shift=0)
    assert (value(registry, "total"), value(registry, "agree_total")) == (2, 1)
    assert (value(registry, "total", "qat"), value(registry, "agree_total", "qat")) == (1, 1)
    assert value(registry, "kl_nats_sum") == pytest.approx(0.202)
    buckets = [value(registry, "kl_nats_bucket", le=le) for le in ("0.001", "0.003", "0.1", "0.3", "+Inf")]
    assert buckets == [0, 1, 1, 2, 2]
    assert value(registry, "confidence_shift_ratio") == pytest.approx(-0.1)


def test_a_divergence_rounded_below_0_counts_as_0(registry: CollectorRegistry, fidelity: Fidelity) -> None:
    fidelity.compared("ptq", agrees=True, kl_nats=-1e-9, confidence_shift=0)
    assert value(registry, "kl_nats_sum") == 0


def test_the_confidence_shift_is_the_mean_of_the_latest(
    registry: CollectorRegistry, fidelity: Fidelity
) -> None:
    for shift in [1.0] * 10 + [0.25] * (WINDOW - 1) + [-0.75]:
        fidelity.compared("ptq", agrees=True, kl_nats=0, confidence_shift=shift)
    assert value(registry, "confidence_shift_ratio") == pytest.approx(0.25 - 1 / WINDOW)


def test_skipped_comparisons_are_counted_by_reason(registry: CollectorRegistry, fidelity: Fidelity) -> None:
    skipped = "edgewise_shadow_skipped_total"
    assert [registry.get_sample_value(skipped, {"reason": reason}) for reason in SKIPS] == [0, 0, 0]
    for reason in Skip:
        fidelity.skipped(reason)
    fidelity.skipped(Skip.QUEUE)
    assert [registry.get_sample_value(skipped, {"reason": reason}) for reason in SKIPS] == [2, 1, 0]


def test_a_failure_is_counted_and_logged(
    registry: CollectorRegistry, fidelity: Fidelity, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        fidelity.failed("ptq", RuntimeError("the device is gone"))
    assert registry.get_sample_value("edgewise_shadow_skipped_total", {"reason": "failed"}) == 1
    assert "the device is gone" in caplog.text
