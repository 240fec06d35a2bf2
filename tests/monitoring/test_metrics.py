import re
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.bundle.folder import Bundle
from service.monitoring.busy import WorkerBusy
from service.monitoring.certificate import NAME as CERTIFICATE_EXPIRY
from service.monitoring.certificate import CertificateExpiry
from service.monitoring.drift import LEAST_ANSWERS, Drift
from service.monitoring.feedback import Feedback
from service.monitoring.fidelity import SKIPS, Fidelity
from service.monitoring.metrics import REJECTIONS, STAGE_BUCKETS, STAGES, LoadedInfo, Metrics
from service.monitoring.sensors import Sensors
from tests.evaluated import EVALUATION

ROOT = Path(__file__).parents[2]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def test_the_table_has_every_metric_its_type_and_its_labels(metrics: Metrics) -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(edgewise_\w+)` \| (\w+) \| (.*?) \|", text, re.MULTILINE)
    documented = {(name, type_, tuple(re.findall(r"`(\w+)`", labels))) for name, type_, labels in rows}
    metrics.registry.register(WorkerBusy(lambda: 0.0))
    metrics.registry.register(CertificateExpiry(lambda: None))
    owners = (
        metrics,
        Fidelity(metrics.registry),
        Feedback(metrics.registry, memory=1, window=1),
        Drift(metrics.registry, None, LEAST_ANSWERS),
    )
    exposed = {
        ("edgewise_worker_busy_seconds_total", "counter", ()),
        (CERTIFICATE_EXPIRY, "gauge", ()),
    } | {
        (metric._name + ("_total" if metric._type == "counter" else ""), metric._type, metric._labelnames)
        for owner in owners
        for metric in vars(owner).values()
        if hasattr(metric, "_labelnames")
    }
    families = Sensors(Path("/nonexistent")).describe()
    of_sensors = {
        (family.name + ("_total" if family.type == "counter" else ""), family.type, family._labelnames)
        for family in families
    }
    assert documented == exposed | of_sensors
    collected = {family.name for family in metrics.registry.collect() if family.name.startswith("edgewise_")}
    assert collected == {name.removesuffix("_total") for name, _, _ in exposed}


def test_the_table_names_every_stage_and_rejection() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert all(f"`{name}`" in text for name in (*STAGES, *REJECTIONS, *SKIPS))


def test_buckets_rise_by_the_same_factor_up_to_about_five_seconds() -> None:
    assert STAGE_BUCKETS[0] == 0.001
    assert 4 < STAGE_BUCKETS[-1] < 5
    ratios = [later / earlier for earlier, later in pairwise(STAGE_BUCKETS)]
    assert ratios == pytest.approx([1.6] * len(ratios), rel=1e-3)


def test_rejections_are_exposed_before_the_first(metrics: Metrics) -> None:
    for reason in REJECTIONS:
        assert metrics.registry.get_sample_value("edgewise_rejected_total", {"reason": reason}) == 0


def test_the_depth_of_the_queue_is_read_at_each_scrape(metrics: Metrics) -> None:
    waiting = [3]
    metrics.watch_queue(lambda: waiting[0], capacity=5, workers=2)
    assert metrics.registry.get_sample_value("edgewise_queue_depth") == 3
    waiting[0] = 4
    assert metrics.registry.get_sample_value("edgewise_queue_depth") == 4


def test_only_loaded_variants_are_shown(metrics: Metrics, colours: Bundle) -> None:
    evaluations = {"evaluations": (EVALUATION,)}
    fp32, ptq = (
        LoadedInfo(name, colours.variant(name).model_copy(update=evaluations), "r", "d", 1, is_fallback)
        for name, is_fallback in (("fp32", False), ("ptq", True))
    )

    def shown() -> set[str]:
        samples = (sample for family in metrics.registry.collect() for sample in family.samples)
        return {sample.labels["variant"] for sample in samples if "variant" in sample.labels}

    metrics.show_variants("colours", "fp32", [fp32, ptq])
    assert shown() == {"fp32", "ptq"}
    assert metrics.registry.get_sample_value("edgewise_delegate_fallback") == 0
    metrics.show_variants("colours", "ptq", [ptq])
    assert shown() == {"ptq"}
    assert metrics.registry.get_sample_value("edgewise_delegate_fallback") == 1


def test_registries_are_independent(metrics: Metrics) -> None:
    metrics.requests.labels("/", "200", "").inc()
    labels = {"route": "/", "status": "200", "variant": ""}
    assert Metrics(CollectorRegistry()).registry.get_sample_value("edgewise_requests_total", labels) is None
