"""All of it together: a load test over a labelled corpus, the service, and Prometheus, against `evaluate`."""

import json
from pathlib import Path

from service.bundle.folder import Bundle
from tests.system.loadtest.loads import LENIENT, load
from tests.system.processes import run, serving
from tests.system.prometheus import Prometheus, prometheus, wait_until

SECONDS = 600


def values(watching: Prometheus, expression: str) -> list[float]:
    return [float(found["value"][1]) for found in watching.query(expression)]


def test_prometheus_holds_what_evaluate_says_of_the_photos_of_a_load_test(
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
        prometheus(tmp_path) as watching,
        watching.watching(service.port),
    ):
        corpus = ["--photos", photos, "--crop", "none"]
        loaded = load(
            *("Camera", "Inspector", "--users", "8", "--fps", "8", "--passes", "1", *LENIENT, *corpus),
            *("--host", service.url, "--report", report),
            seconds=SECONDS,
        )
        assert loaded.returncode == 0, loaded.stderr
        wait_until(
            lambda: values(watching, "edgewise_window_labelled") == [images],
            lambda: f"{images} labelled answers; there are {values(watching, 'edgewise_window_labelled')}",
        )
        for k in ("1", "5"):
            expected = evaluation[f"top{k}"]
            assert values(watching, f'edgewise_correct_total{{k="{k}"}}') == [expected["count"]]
            for end, name in (("", "ratio"), ("_lower", "lower"), ("_upper", "upper")):
                assert values(watching, f'edgewise_window_accuracy_ratio{end}{{k="{k}"}}') == [expected[name]]
    seen = json.loads((report / "report.json").read_text())["accuracy"][variant]
    right = [evaluation[top]["count"] for top in ("top1", "top5")]
    assert (seen["answers"], seen["photos"]) == (images, images)
    assert [seen["correct"], seen["correct5"]] == right
