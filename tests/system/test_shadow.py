"""Shadow runs of a real service."""

import json
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.bundle.folder import Bundle
from service.bundle.manifest import comparison_with, reference_evaluation
from service.images.pixels import Crop
from service.measuring.evaluation import Candidate, evaluate
from service.measuring.labelled import labelled_images
from tests.api.running import photo, samples
from tests.system.processes import run, serving, wait_for


def compared(client: httpx.Client, variant: str) -> float:
    return samples(client).get(f'edgewise_shadow_total{{variant="{variant}"}}', 0)


def skipped(client: httpx.Client) -> float:
    return samples(client)['edgewise_shadow_skipped_total{reason="queue"}']


def test_an_idle_service_measures_the_same_as_the_build_stage(default_bundle: Bundle, shared: Path) -> None:
    folder = shared / "images" / "imagenet-val"
    images = labelled_images(folder, default_bundle.classes)
    candidates = {name: Candidate(default_bundle, name) for name in ("fp32", "qat")}
    measured = evaluate(candidates, images, Crop.NONE, folder.name)
    expected = comparison_with(measured.evaluations["qat"], "fp32")
    assert expected is not None
    with (
        serving(variant="qat", shadow_variant="fp32", shadow_ratio=1, workers=1) as service,
        service.client() as client,
    ):
        for number, image in enumerate(images, 1):
            answer = client.post("/v1/classify?crop=none", content=image.path.read_bytes())
            assert answer.status_code == 200
            wait_for(lambda number=number: compared(client, "qat") == number)
        metrics = samples(client)
    agreed = metrics['edgewise_shadow_agree_total{variant="qat"}']
    assert agreed == expected.agreement.count
    assert metrics['edgewise_shadow_kl_nats_count{variant="qat"}'] == len(images)
    mean = metrics['edgewise_shadow_kl_nats_sum{variant="qat"}'] / len(images)
    assert mean == pytest.approx(expected.kl_nats, abs=1e-6)
    qat, fp32 = (measured.probabilities[name].max(axis=1).astype(np.float64) for name in ("qat", "fp32"))
    shift = metrics['edgewise_shadow_confidence_shift_ratio{variant="qat"}']
    assert shift == pytest.approx((qat - fp32).mean(), abs=1e-6)
    recorded = reference_evaluation(default_bundle.variant("qat").evaluations)
    assert recorded is not None
    assert recorded.dataset == measured.evaluations["qat"].dataset
    recorded_comparison = comparison_with(recorded, "fp32")
    assert recorded_comparison is not None
    # Another processor may round ties differently.
    assert abs(agreed - recorded_comparison.agreement.count) <= 3
    assert mean == pytest.approx(recorded_comparison.kl_nats, abs=1e-4)


def test_each_answer_counts_under_the_variant_that_gave_it(colours: Bundle, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("the-token-of-the-admin")
    settings = {
        "bundle": colours.path,
        "variant": "ptq",
        "loaded_variants": "softmax",
        "shadow_variant": "fp32",
        "shadow_ratio": 1,
        "admin_token_file": token,
    }
    with serving(**settings) as service, service.client() as client:
        for path, variant in [("", "ptq"), ("?variant=softmax", "softmax")]:
            assert client.post(f"/v1/classify{path}", content=photo("red")).json()["variant"] == variant
            wait_for(lambda variant=variant: compared(client, variant) == 1)
        headers = {"Authorization": f"Bearer {token.read_text()}"}
        for variant in ("int8", "fp32"):
            switched = client.put("/v1/variants/active", json={"variant": variant}, headers=headers)
            assert switched.status_code == 200
            assert client.post("/v1/classify", content=photo("red")).json()["variant"] == variant
            if variant != "fp32":
                wait_for(lambda: compared(client, "int8") == 1)
        time.sleep(0.2)
        assert compared(client, "fp32") == 0


def test_batches_and_open_inference_images_are_compared_too(colours: Bundle) -> None:
    with (
        serving(
            bundle=colours.path, variant="ptq", workers=1, shadow_variant="fp32", shadow_ratio=1
        ) as service,
        service.client() as client,
    ):
        parts = [("image", photo(colour)) for colour in ("red", "blue")]
        assert client.post("/v1/classify/batch", files=parts).status_code == 200
        # The first image is compared only if the worker has to wait for the second.
        wait_for(lambda: compared(client, "ptq") + skipped(client) == 2)
        of_batch = compared(client, "ptq")
        assert of_batch >= 1
        image, name = photo("red"), colours.manifest.name
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}
        payload = len(image).to_bytes(4, "little") + image
        text = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(payload)}}]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(text))}
        answer = client.post(f"/v2/models/{name}/infer", content=text + payload, headers=headers)
        assert answer.status_code == 200, answer.text
        wait_for(lambda: compared(client, "ptq") == of_batch + 1)


def test_without_the_settings_there_are_no_shadow_metrics(colours: Bundle) -> None:
    with serving(bundle=colours.path) as service, service.client() as client:
        assert not [name for name in samples(client) if name.startswith("edgewise_shadow")]


def test_one_setting_without_the_other_stops_the_start(colours: Bundle) -> None:
    for given, missing in [({"shadow_variant": "fp32"}, "RATIO"), ({"shadow_ratio": 0.1}, "VARIANT")]:
        result = run(bundle=colours.path, **given)
        assert result.returncode == 2
        assert f"EDGEWISE_SHADOW_{missing}, " in result.stderr
        assert result.stderr.count("\n") == 1


def test_check_shows_the_shadow_variant(colours: Bundle) -> None:
    result = run("check", bundle=colours.path, shadow_variant="fp32", shadow_ratio=0.1)
    assert result.returncode == 0, result.stderr
    assert "shadow" in next(line for line in result.stdout.splitlines() if line.startswith("fp32"))


def test_the_workers_busy_time_is_counted(colours: Bundle) -> None:
    with serving(bundle=colours.path) as service, service.client() as client:
        assert samples(client)["edgewise_worker_busy_seconds_total"] == 0
        took, started = 0.0, time.monotonic()
        for _ in range(10):
            timing = client.post("/v1/classify", content=photo("red", size=(900, 900))).json()["timing_ms"]
            took += (timing["decode"] + timing["inference"]) / 1000
        busy = samples(client)["edgewise_worker_busy_seconds_total"]
        assert 0.99 * took <= busy <= time.monotonic() - started
