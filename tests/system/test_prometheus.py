"""A real Prometheus scrapes real services: every query returns data, every alert fires and clears."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from service.bundle.folder import Bundle
from service.bundle.manifest import ImageSet
from service.bundle.reference import QUANTILES, Answers, Reference
from service.inference.classifier import Classifier
from tests.api.running import photo
from tests.colours import LABELS_OF
from tests.evaluated import evaluation, with_reference
from tests.k8s.monitoring import ROOT, alerts, metrics_in, panels, queries, recorded, rules
from tests.sensors import boards
from tests.system.faults import (
    Camera,
    certificate_about_to_expire,
    clients_time_out,
    missing_accelerator_and_crashes,
    overload_on_a_hot_board,
    unread_log_and_slow_senders,
)
from tests.system.noise import noise_images
from tests.system.processes import serving
from tests.system.prometheus import Prometheus, Target, free_port, prometheus, shorten_durations, wait_until

TOKEN = "0123456789abcdef"  # noqa: S105
ACTIVE = "/v1/variants/active"
INDEPENDENT_FAULTS = (
    overload_on_a_hot_board,
    missing_accelerator_and_crashes,
    clients_time_out,
    unread_log_and_slow_senders,
    certificate_about_to_expire,
)
# The only alert without a target; `Target.wait_for` waits for the others.
ABSENT = "EdgewiseAbsent"
# Halfway between black and blue, where int8 and float disagree.
AMBIGUOUS = (0, 0, 128)

Images = list[tuple[bytes, int]]
Fault = Callable[[Prometheus, Bundle, Path], None]


@dataclass(frozen=True)
class Watched:
    """A service under load with all its features in use, and its Prometheus target."""

    bundle: Bundle
    client: httpx.Client
    camera: Camera
    target: Target


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with prometheus(tmp_path_factory.mktemp("prometheus")) as server:
        wait_until(lambda: server.firing(None) == {ABSENT}, lambda: f"{ABSENT} to fire")
        yield server


@pytest.fixture(scope="module")
def faults(
    running: Prometheus, colours: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Fault, Future[None]]]:
    """The independent faults, all running at the same time."""
    with ThreadPoolExecutor(len(INDEPENDENT_FAULTS)) as threads:
        yield {
            fault: threads.submit(fault, running, colours, tmp_path_factory.mktemp("fault"))
            for fault in INDEPENDENT_FAULTS
        }


@pytest.fixture(scope="module")
def images(colours: Bundle) -> Images:
    """Noise around various colours, each with the class that the bundle gives it."""
    classifier = Classifier(colours, "ptq")
    return [(image, _top1(classifier, image)) for image in noise_images(100, 48)]


@pytest.fixture(scope="module")
def watched(
    running: Prometheus,
    faults: dict[Fault, Future[None]],
    colours: Bundle,
    images: Images,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    bundle = _with_evaluation_and_reference(colours, folder / "bundle", images)
    token = folder / "token"
    token.write_text(TOKEN)
    board = boards.write_tree(
        folder / "sys",
        boards.zone(0, "cpu-thermal", "55000"),
        boards.cpu(0, 1_500_000, 1_800_000),
        boards.rapl("0", "package-0", 1),
    )
    port = free_port()
    settings = {
        "bundle": bundle.path,
        "port": port,
        "loaded_variants": "ptq,fp32",
        "admin_token_file": token,
        "shadow_variant": "fp32",
        "shadow_ratio": 1,
        "feedback_window": 100,
        "drift_window": 200,
        "sysfs_root": board,
    }
    with (
        serving(**settings) as service,
        service.client() as client,
        Camera(service.url, images).on() as camera,
        running.watching(port) as target,
    ):
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        for name in ("fp32", "ptq"):
            client.put(ACTIVE, json={"variant": name}).raise_for_status()
        yield Watched(bundle, client, camera, target)


def test_every_duration_is_shortened() -> None:
    text = "for: 2m\nfor: 1h\nrate(a:rate5m[5m]) offset 15m"
    assert shorten_durations(text) == "for: 1000ms\nfor: 30000ms\nrate(a:rate5m[2500ms]) offset 7500ms"


def test_every_query_of_the_dashboard_returns_data(watched: Watched) -> None:
    filled = dict(
        queries(job="edgewise", instance=watched.target.instance, variant="ptq", __rate_interval="5s")
    )
    empty = set(filled)

    def all_answered() -> bool:
        empty.difference_update({title for title in empty if watched.target.prometheus.query(filled[title])})
        return not empty

    wait_until(all_answered, lambda: f"data for {sorted(empty)}")


def test_a_node_without_traffic_shows_no_data_instead_of_nan(running: Prometheus, colours: Bundle) -> None:
    port = free_port()
    with serving(bundle=colours.path, port=port) as service, running.watching(port) as target:
        with service.client() as client:
            client.post("/v1/classify", content=photo("red")).raise_for_status()
        p99 = f'instance_variant:edgewise_total_seconds:p99_5m{{instance="{target.instance}"}}'
        # Prometheus' own word for a percentile of nothing.
        wait_until(lambda: [s["value"][1] for s in running.query(p99)] == ["NaN"], lambda: f"{p99} to be NaN")
        shown = dict(queries(job="edgewise", instance=target.instance, variant=".*", __rate_interval="5s"))
        for panel in panels():
            # In a time series, Grafana leaves a gap for NaN.
            if panel["type"] != "timeseries":
                for one in panel["targets"]:
                    expression = shorten_durations(shown[f"{panel['title']}, {one['refId']}"])
                    assert "NaN" not in [s["value"][1] for s in running.query(expression)], expression


def test_every_recording_rule_returns_data(watched: Watched) -> None:
    missing = recorded()

    def all_recorded() -> bool:
        missing.difference_update({name for name in missing if watched.target.prometheus.query(name)})
        return not missing

    wait_until(all_recorded, lambda: f"{sorted(missing)} to be recorded")


def test_rules_and_dashboard_use_only_existing_metrics(watched: Watched) -> None:
    variables = {"job": "x", "instance": "x", "variant": "x", "__rate_interval": "1m"}
    expressions = [expression for _, expression in queries(**variables)] + [rule["expr"] for rule in rules()]
    named = set().union(*map(metrics_in, expressions))
    families = _families(watched.client)
    # Without a certificate, the metric of its expiry has a name but no sample.
    exposed = {name for family in families for name in (family.name, *(s.name for s in family.samples))}
    assert named - recorded() - exposed == set()


def test_the_documented_metrics_are_the_exposed_ones(watched: Watched) -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(edgewise_\w+)` \| (\w+) \| (.*?) \|", text, re.MULTILINE)
    documented = {(name, type_, frozenset(re.findall(r"`(\w+)`", labels))) for name, type_, labels in rows}
    exposed = {
        (
            family.name + ("_total" if family.type == "counter" else ""),
            family.type,
            frozenset(label for sample in family.samples for label in sample.labels) - {"le"},
        )
        for family in _families(watched.client)
        if family.name.startswith("edgewise_")
    }
    assert documented == exposed


def test_alerts_on_wrong_answers_drift_disagreement_and_a_failed_switch(
    watched: Watched, images: Images
) -> None:
    target, camera = watched.target, watched.camera
    target.wait_for_quiet()
    file = watched.bundle.path / "softmax.tflite"
    original = file.read_bytes()
    file.write_bytes(b"damaged" + original)
    assert watched.client.put(ACTIVE, json={"variant": "softmax"}).status_code == 500
    # All are labelled green: three of four are black, and one is ambiguous.
    wrong = LABELS_OF.index("green")
    sent = [photo("black")] * 3 + [_plain(AMBIGUOUS)]
    camera.labels_late, camera.images = True, [(image, wrong) for image in sent]
    target.wait_for("EdgewiseSwitchFailed")
    target.wait_for("EdgewiseInaccurate", "EdgewiseShadowDisagrees", "EdgewiseDrift")
    camera.labels_late, camera.images = False, images
    file.write_bytes(original)
    watched.client.put(ACTIVE, json={"variant": "softmax"}).raise_for_status()
    watched.client.put(ACTIVE, json={"variant": "ptq"}).raise_for_status()
    target.wait_for_quiet()


@pytest.mark.parametrize("fault", INDEPENDENT_FAULTS, ids=lambda fault: fault.__name__)
def test_alerts_fire_and_clear(faults: dict[Fault, Future[None]], fault: Fault) -> None:
    faults[fault].result()


def test_the_alert_about_missing_targets_clears_once_there_are_some(
    running: Prometheus, watched: Watched
) -> None:
    # It has fired before: see the fixture `running`.
    wait_until(lambda: not running.firing(None), lambda: f"{ABSENT} to clear")


def test_every_alert_is_tested() -> None:
    names = {
        argument.value
        for file in ("faults.py", "test_prometheus.py")
        for node in ast.walk(ast.parse((Path(__file__).parent / file).read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "target.wait_for"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }
    assert names | {ABSENT} == alerts().keys()


def _with_evaluation_and_reference(colours: Bundle, path: Path, images: Images) -> Bundle:
    """Write the bundle with an evaluation on these images and a reference for drift."""
    image_set = ImageSet(name="noise", images=len(images), sha256="0" * 64)
    answers = {}
    for name in colours.manifest.variants:
        predictions = [Classifier(colours, name).classify(image).top(1)[0] for image, _ in images]
        top1 = Counter(index for index, _ in predictions)
        quantiles = np.quantile([probability for _, probability in predictions], np.linspace(0, 1, QUANTILES))
        answers[name] = Answers(
            top1=tuple(top1[index] for index in range(colours.manifest.classes)),
            confidence=tuple(float(value) for value in quantiles),
        )
    reference = Reference(dataset=image_set, crop="bundle", variants=answers)
    evaluated = evaluation(95, image_set).model_copy(update={"crop": "bundle"})
    return with_reference(colours, path, reference.model_dump_json().encode(), evaluated)


def _plain(colour: tuple[int, int, int]) -> bytes:
    file = BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "PNG")
    return file.getvalue()


def _top1(classifier: Classifier, image: bytes) -> int:
    return int(classifier.classify(image).top(1)[0][0])


def _families(client: httpx.Client) -> list[Metric]:
    return list(text_string_to_metric_families(client.get("/metrics").text))
