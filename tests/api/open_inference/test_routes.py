import json
import re
import tracemalloc
from collections.abc import Iterable
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import Request

from service.api.open_inference import routes
from service.api.work import each_classified
from service.errors import RequestError
from service.inference.job import Answer, Job
from service.inference.pool import Pool
from service.settings import Settings
from tests.api.open_inference.inference_requests import (
    INFER,
    LENGTH,
    MODEL,
    base64_input,
    binary,
    error_message,
    infer,
)
from tests.api.running import blocked_worker, photo, running, samples
from tests.colours import RGB, SIDE


def test_an_id_is_echoed(client: httpx.Client) -> None:
    assert infer(client, base64_input(photo("red")), id="my own").json()["id"] == "my own"
    assert "id" not in infer(client, base64_input(photo("red"))).json()
    assert infer(client, base64_input(photo("red")), id="é" * 256).json()["id"] == "é" * 256


def test_an_enormous_timeout_is_accepted(client: httpx.Client) -> None:
    members = {"parameters": {"timeout": 10**400}}
    assert infer(client, base64_input(photo("red")), **members).status_code == 200


def test_an_image_waits_no_longer_than_the_requests_timeout(settings: Settings) -> None:
    with blocked_worker(settings) as (client, _):
        response = infer(client, base64_input(photo("red")), parameters={"timeout": 50_000})
    (seconds,) = re.findall(r"in the (\S+) seconds", error_message(response, 504, "deadline-exceeded"))
    assert float(seconds) <= 0.05


FILE = photo("red", "BMP", (200, 180))
PIXELS = np.full((SIDE, SIDE, 3), RGB["red"], np.uint8).tobytes()


@pytest.mark.parametrize(
    ("image", "tail"),
    [
        (base64_input(FILE), b""),
        (binary("UINT8", [1, SIDE, SIDE, 3], PIXELS), PIXELS),
    ],
    ids=["base64", "pixels"],
)
def test_waiting_images_hold_no_memory_that_the_queue_does_not_count(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, image: dict[str, Any], tail: bytes
) -> None:
    uncounted_bytes: list[int] = []

    async def classified(
        request: Request, pool: Pool, jobs: Iterable[Job], *, are_checked: bool
    ) -> list[Answer | RequestError]:
        jobs = list(jobs)
        uncounted_bytes.append(tracemalloc.get_traced_memory()[0] - sum(job.size for job in jobs))
        return await each_classified(request, pool, jobs, are_checked=are_checked)

    monkeypatch.setattr(routes, "each_classified", classified)
    padding = "x" * (190_000 - len(json.dumps(image)) - len(tail))
    text = json.dumps({"inputs": [image], "padding": padding}).encode()
    body = text + tail
    # What the first request loads stays in memory.
    infer(client, image, tail=tail)
    uncounted_bytes.clear()
    tracemalloc.start()
    try:
        response = client.post(INFER, content=body, headers={LENGTH: str(len(text))})
    finally:
        tracemalloc.stop()
    assert response.status_code == 200, response.text
    # The client holds some of what it sends, too.
    assert uncounted_bytes[0] < 160_000


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/models/other{}", "unknown-model"),
        (f"{MODEL}/versions/nope{{}}", "unknown-variant"),
        (f"{MODEL}/versions/1/nope{{}}", "unknown-route"),
    ],
)
def test_unknown_models_variants_and_routes_are_404(
    client: httpx.Client, method: str, path: str, code: str
) -> None:
    error_message(client.request(method, path.format("/infer" if method == "post" else "")), 404, code)


def test_a_variant_that_is_not_loaded_is_known_but_not_ready(client: httpx.Client) -> None:
    assert client.get(f"{MODEL}/versions/ptq").json()["versions"] == ["fp32", "ptq", "int8", "softmax"]
    error_message(client.get(f"{MODEL}/versions/ptq/ready"), 409, "variant-not-loaded")
    error_message(client.post(f"{MODEL}/versions/ptq/infer", content=b"{}"), 409, "variant-not-loaded")
    assert client.get(f"{MODEL}/versions/fp32/ready").json() == {"name": "colours", "ready": True}


def test_problems_elsewhere_have_no_error_member(client: httpx.Client) -> None:
    assert "error" not in client.get("/v1/nope").json()
    assert "error" not in client.get("/v2nope").json()
    error_message(client.delete("/v2"), 405, "method-not-allowed")


def test_the_model_may_have_another_name(settings: Settings) -> None:
    with running(settings.model_copy(update={"model_name": "birds"})) as client:
        assert client.get("/v2/models/birds").json()["name"] == "birds"
        error_message(client.get(MODEL), 404, "unknown-model")
        body = {"inputs": [base64_input(photo("red"))]}
        assert client.post("/v2/models/birds/infer", json=body).json()["model_name"] == "birds"


def test_each_image_is_measured(settings: Settings) -> None:
    with running(settings) as client:
        infer(client, base64_input(photo("red"), photo("blue")))
        assert samples(client)['edgewise_stage_seconds_count{stage="inference",variant="fp32"}'] == 2


def test_more_images_than_the_queue_takes_get_no_retry_after(settings: Settings) -> None:
    with running(settings.model_copy(update={"queue_size": 2})) as client:
        assert infer(client, base64_input(*[photo("red")] * 2)).status_code == 200
        response = infer(client, base64_input(*[photo("red")] * 3))
        error_message(response, 413, "batch-too-large")
        assert "retry-after" not in response.headers
