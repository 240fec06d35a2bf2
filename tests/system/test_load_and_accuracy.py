"""A load test, the service and Prometheus together: their accuracy, compared with `evaluate`."""

import json
from pathlib import Path

from service.bundle.folder import Bundle
from tests.system.loadtest.loads import LENIENT, load
from tests.system.processes import run, serving
from tests.system.prometheus import Prometheus, prometheus, wait_until

SECONDS = 600


def values(running: Prometheus, expression: str) -> list[float]:
    return [float(found["value"][1]) for found in running.query(expression)]


def test_load_test_and_prometheus_report_the_accuracy_of_evaluate(
    default_bundle: Bundle, shared: Path, tmp_path: Path
) -> None:
    photos, result, report = shared / "images" / "imagenet-val", tmp_path / "result.json", tmp_path / "report"
    variant = default_bundle.manifest.default_variant
    evaluated = run(
        *("evaluate", photos, "--crop", "none", "--variants", variant, "--json", result),
        bundle=default_bundle.path,
    )
    assert evaluated.returncode == 0, evaluated.stderr
    evaluation = json.loads(result.read_text())["evaluations"][variant]
    images = evaluation["dataset"]["images"]
    with (
        serving(bundle=default_bundle.path, variant=variant, feedback_window=images) as service,
        prometheus(tmp_path) as running,
        running.watching(service.port),
    ):
        corpus = ["--photos", photos, "--crop", "none"]
        loaded = load(
            *("Camera", "Inspector", "--users", "8", "--fps", "8", "--passes", "1", *LENIENT, *corpus),
            *("--host", service.url, "--report", report),
            seconds=SECONDS,
        )
        assert loaded.returncode == 0, loaded.stderr
        wait_until(
            lambda: values(running, "edgewise_window_labelled") == [images],
            lambda: f"{images} labelled answers; there are {values(running, 'edgewise_window_labelled')}",
        )
        for k in ("1", "5"):
            expected = evaluation[f"top{k}"]
            assert values(running, f'edgewise_correct_total{{k="{k}"}}') == [expected["count"]]
            for end, name in (("", "ratio"), ("_lower", "lower"), ("_upper", "upper")):
                assert values(running, f'edgewise_window_accuracy_ratio{end}{{k="{k}"}}') == [expected[name]]
    reported = json.loads((report / "report.json").read_text())["accuracy"][variant]
    expected_counts = [evaluation[top]["count"] for top in ("top1", "top5")]
    assert (reported["answers"], reported["photos"]) == (images, images)
    assert [reported["correct"], reported["correct5"]] == expected_counts
