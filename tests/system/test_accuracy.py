"""A real service's metrics of its answers: accuracy, compared with `service evaluate`, and drift."""

import json
import random
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from service.bundle.folder import Bundle
from service.images.pixels import Crop
from service.inference.classifier import Classifier
from service.measuring.labelled import LabelledImage, labelled_images
from service.monitoring.drift import LEAST_ANSWERS
from service.results.wilson import wilson_95
from tests.api.running import samples
from tests.bench.drift import measure
from tests.system.processes import ROOT, Service, run, serving

IMAGES = 100
THRESHOLD = 0.3


def photos(shared: Path, folder: str, count: int) -> list[Path]:
    paths = sorted((shared / "images" / folder).rglob("*.[jJ]*"))
    return random.Random(0).sample(paths, count)  # noqa: S311


def classify(service: Service, paths: Iterable[Path]) -> None:
    with service.client() as client:
        for path in paths:
            response = client.post("/v1/classify", params={"crop": "none"}, content=path.read_bytes())
            assert response.status_code == 200, response.text


def send_labelled(service: Service, images: Iterable[LabelledImage]) -> None:
    """Send images with a label, or with feedback afterwards; by class id or by index, in turn."""
    with service.client() as client:
        for number, image in enumerate(images):
            label: str | int = image.path.parent.name[5:] if number % 4 < 2 else image.index
            query = {"crop": "none"} | ({"label": str(label)} if number % 2 else {})
            answer = client.post("/v1/classify", params=query, content=image.path.read_bytes()).json()
            if not number % 2:
                feedback = client.post("/v1/feedback", json={"id": answer["id"], "label": label})
                assert feedback.status_code == 200, feedback.text


def test_live_accuracy_equals_that_of_evaluate(default_bundle: Bundle, shared: Path, tmp_path: Path) -> None:
    folder, result = tmp_path / "photos", tmp_path / "result.json"
    for path in photos(shared, "imagenet-val", IMAGES):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.parent.name)
    variant = default_bundle.manifest.default_variant
    evaluated = run(
        *("evaluate", folder, "--crop", "none", "--variants", variant, "--json", result),
        bundle=default_bundle.path,
    )
    assert evaluated.returncode == 0, evaluated.stderr
    evaluation = json.loads(result.read_text())["evaluations"][variant]
    images = labelled_images(folder, default_bundle.classes)
    assert evaluation["dataset"]["images"] == len(images) == IMAGES
    with serving(bundle=default_bundle.path, variant=variant) as service:
        send_labelled(service, images)
        with service.client() as client:
            found = samples(client)
    assert found[f'edgewise_labelled_total{{variant="{variant}"}}'] == IMAGES
    assert found[f'edgewise_window_labelled{{variant="{variant}"}}'] == IMAGES
    for k in ("1", "5"):
        labels = f'{{k="{k}",variant="{variant}"}}'
        expected = evaluation[f"top{k}"]
        assert found[f"edgewise_correct_total{labels}"] == expected["count"]
        live = [found[f"edgewise_window_accuracy_ratio{end}{labels}"] for end in ("", "_lower", "_upper")]
        assert live == [expected[end] for end in ("ratio", "lower", "upper")]
        assert live[1:] == [*wilson_95(expected["count"], IMAGES)]


def test_the_drift_threshold_separates_new_photos_from_groceries(
    default_bundle: Bundle, shared: Path
) -> None:
    classifier = Classifier(default_bundle, default_bundle.manifest.default_variant)
    new, others = (
        np.stack([classifier.classify(path.read_bytes(), Crop.NONE).probabilities for path in paths])
        for paths in (photos(shared, "imagenet-val", 650), photos(shared, "grocery/test", 325))
    )
    for found in measure(new, others, LEAST_ANSWERS, splits=100).values():
        assert np.quantile(found[:, 0], 0.99) < THRESHOLD < np.quantile(found[:, 1], 0.01)


def test_the_documentation_states_the_drift_threshold() -> None:
    assert f"**Above {THRESHOLD} " in (ROOT / "docs" / "metrics.md").read_text()


@pytest.mark.parametrize(("folder", "drifts"), [("imagenet-val", False), ("grocery", True)])
def test_drift_exceeds_the_threshold_for_groceries_only(
    default_bundle: Bundle, shared: Path, folder: str, *, drifts: bool
) -> None:
    paths = photos(shared, folder, LEAST_ANSWERS)
    variant = default_bundle.manifest.default_variant
    with serving(bundle=default_bundle.path, variant=variant) as service:
        classify(service, paths[:-1])
        with service.client() as client:
            assert not [name for name in samples(client) if name.startswith("edgewise_drift_psi")]
        classify(service, paths[-1:])
        with service.client() as client:
            found = samples(client)
    for signal in ("top1", "confidence"):
        index = found[f'edgewise_drift_psi{{signal="{signal}",variant="{variant}"}}']
        assert (index > THRESHOLD) is drifts
