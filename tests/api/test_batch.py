import functools
import gc
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.api import multipart
from service.api.multipart import FormImages
from service.bundle.folder import Bundle
from service.inference.classifier import Prediction
from service.inference.job import Job
from service.settings import Settings
from tests.api.running import blocked_worker, photo, running, samples
from tests.colours import RGB
from tests.system.processes import wait_for

BATCH = "/v1/classify/batch"


def form(*images: bytes) -> list[tuple[str, bytes]]:
    return [("image", image) for image in images]


def code(problem: dict[str, object]) -> str:
    optional = {"retry_after"} if problem["status"] == 429 else set()
    assert set(problem) == {"type", "title", "status", "detail", "instance"} | optional
    return str(problem["type"]).removeprefix("/problems/")


def test_every_image_is_answered_in_order(client: httpx.Client) -> None:
    response = client.post(BATCH, files=form(*map(photo, RGB)), params={"top_k": 1})
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["predictions"][0]["label"] for result in results] == [*RGB]
    assert {len(result["predictions"]) for result in results} == {1}
    assert len({result["id"] for result in results}) == len(RGB)


def test_an_image_is_answered_as_in_a_request_of_its_own(client: httpx.Client) -> None:
    query = {"crop": "none", "min_probability": "1"}
    (result,) = client.post(BATCH, files=form(photo("red")), params=query).json()["results"]
    alone = client.post("/v1/classify", content=photo("red"), params=query).json()
    differing = ("id", "timing_ms")
    assert {k: v for k, v in result.items() if k not in differing} == {
        k: v for k, v in alone.items() if k not in differing
    }
    assert result["timing_ms"].keys() == alone["timing_ms"].keys()


def test_a_bad_image_does_not_fail_the_others(client: httpx.Client) -> None:
    images = form(photo("red"), b"no image", b"", photo("blue")[:60], photo("blue"))
    red, *problems, blue = client.post(BATCH, files=images).json()["results"]
    assert red["predictions"][0]["label"] == "red"
    assert blue["predictions"][0]["label"] == "blue"
    codes = [code(result["problem"]) for result in problems]
    assert codes == ["unsupported-image", "empty-body", "corrupt-image"]
    instances = [result["problem"]["instance"] for result in problems]
    assert instances == [f"urn:uuid:{red['id'].removesuffix('0')}{number}" for number in (1, 2, 3)]


def test_an_image_with_a_nan_output_does_not_fail_the_others(settings: Settings, logarithmic: Bundle) -> None:
    with running(settings.model_copy(update={"bundle": logarithmic.path})) as client:
        response = client.post(BATCH, files=form(photo("red"), photo("black")))
        assert response.status_code == 200
        red, black = response.json()["results"]
        assert red["predictions"][0]["label"] == "red"
        assert (code(black["problem"]), black["problem"]["status"]) == ("no-answer", 500)
        alone = client.post("/v1/classify", content=photo("black"))
        assert (alone.status_code, code(alone.json())) == (500, "no-answer")
        assert "variant fp32 gives NaN" in alone.json()["detail"]
        assert client.post("/v1/classify", content=photo("black"), params={"variant": "fp32"}).is_error
        counted = samples(client)
        assert counted['edgewise_requests_total{route="/v1/classify",status="500",variant="fp32"}'] == 2
        assert counted['edgewise_confidence_count{variant="fp32"}'] == 1
        # It counts failed requests and failed images of batches.
        assert counted['edgewise_rejected_total{reason="no_answer"}'] == 3


def test_no_image_is_kept_in_memory_by_the_error_of_another(client: httpx.Client) -> None:
    gc.collect()
    gc.disable()
    try:
        response = client.post(BATCH, files=form(photo("red"), b"", photo("blue")))
        assert response.status_code == 200
        red, empty, blue = response.json()["results"]
        assert [red["predictions"][0]["label"], blue["predictions"][0]["label"]] == ["red", "blue"]
        assert code(empty["problem"]) == "empty-body"
        # The access log frees its requests in batches, a moment later.
        wait_for(lambda: not any(isinstance(each, Job) for each in gc.get_objects()))
    finally:
        gc.enable()


def test_no_image_is_kept_in_memory_by_its_form(client: httpx.Client) -> None:
    def forms() -> int:
        # None may stay until the next garbage collection, which is rare.
        return sum(isinstance(each, FormImages) for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            both = client.post(BATCH, files=form(photo("red"), photo("blue")))
            assert all("predictions" in result for result in both.json()["results"])
            assert client.post("/v1/classify", files=form(photo("red"))).status_code == 200
            assert client.post("/v1/classify", files=[("file", photo("red"))]).status_code == 400
        wait_for(lambda: forms() == 0)
    finally:
        gc.enable()


def test_refused_images_are_freed_while_the_batch_waits(settings: Settings) -> None:
    large = photo("red", size=(4500, 4500))
    limits = {"workers": 1, "queue_size": 1, "max_pixels": 50_000_000, "max_body_bytes": 10_000_000}

    def jobs_in_memory() -> int:
        return sum(isinstance(each, Job) for each in gc.get_objects())

    with running(settings.model_copy(update=limits)) as client, ThreadPoolExecutor(1) as threads:
        answer = threads.submit(client.post, BATCH, files=form(*[large] * 8))
        counts = []
        while not answer.done():
            counts.append(jobs_in_memory())
        assert sum("problem" in result for result in answer.result().json()["results"]) == 6
    # One is being classified, one waits, and one may just be refused.
    assert 1 <= max(counts) <= 3


@pytest.mark.parametrize(
    ("content", "content_type", "status", "expected", "detail"),
    [
        (photo("red"), "image/png", 400, "bad-multipart", "not a form"),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 400, "bad-multipart", "has no part"),
        (b"--x\r\n", "multipart/form-data", 400, "bad-multipart", "no boundary"),
        (bytes(200_001), "multipart/form-data; boundary=x", 413, "body-too-large", "200000"),
    ],
)
def test_a_bad_form_fails_the_whole_batch(
    client: httpx.Client, content: bytes, content_type: str, status: int, expected: str, detail: str
) -> None:
    response = client.post(BATCH, content=content, headers={"Content-Type": content_type})
    assert response.status_code == status
    assert code(response.json()) == expected
    assert detail in response.json()["detail"]


def test_one_image_too_many_is_refused_with_the_limit(client: httpx.Client) -> None:
    assert client.post(BATCH, files=form(*[photo("red")] * 8)).status_code == 200
    response = client.post(BATCH, files=form(*[photo("red")] * 9))
    assert response.status_code == 413
    assert code(response.json()) == "batch-too-large"
    assert "the limit of 8 images" in response.json()["detail"]


@pytest.mark.parametrize(("query", "status"), [("top_k=6", 422), ("topk=1", 422), ("variant=nope", 404)])
def test_parameters_are_checked_as_for_a_single_image(client: httpx.Client, query: str, status: int) -> None:
    assert client.post(f"{BATCH}?{query}", files=form(photo("red"))).status_code == status


def test_images_beyond_the_queue_are_refused_and_the_others_measured(settings: Settings) -> None:
    # One takes long to classify and two may wait, or more once that one is done.
    large = photo("red", size=(4500, 4500))
    limits = {"workers": 1, "queue_size": 2, "max_pixels": 50_000_000, "max_body_bytes": 10_000_000}
    with running(settings.model_copy(update=limits)) as client:
        response = client.post(BATCH, files=form(*[large] * 5))
        assert response.status_code == 200
        results = response.json()["results"]
        refused = [result["problem"] for result in results if "problem" in result]
        assert 1 <= len(refused) <= 2
        assert {(code(problem), problem["status"]) for problem in refused} == {("queue-full", 429)}
        assert all(type(problem["retry_after"]) is int and problem["retry_after"] >= 1 for problem in refused)
        counted = samples(client)
        answered = 'edgewise_stage_seconds_count{stage="inference",variant="fp32"}'
        assert counted[answered] == 5 - len(refused)
        assert counted['edgewise_rejected_total{reason="queue_full"}'] == len(refused)
        assert counted[f'edgewise_requests_total{{route="{BATCH}",status="200",variant="fp32"}}'] == 1


def test_free_workers_take_images_beyond_the_queue_size(settings: Settings) -> None:
    with running(settings.model_copy(update={"workers": 4, "queue_size": 4})) as client:
        results = client.post(BATCH, files=form(*[photo("red")] * 6)).json()["results"]
    assert all("predictions" in result for result in results)


def test_concurrent_batches_each_get_their_own_answers(client: httpx.Client) -> None:
    batches = [[*RGB][number % 5 :] for number in range(12)]

    def ask(colours: list[str]) -> list[str]:
        results = client.post(BATCH, files=form(*map(photo, colours))).json()["results"]
        return [r["predictions"][0]["label"] if "predictions" in r else "refused" for r in results]

    with ThreadPoolExecutor(3) as threads:
        for colours, labels in zip(batches, threads.map(ask, batches), strict=True):
            assert all(label in (colour, "refused") for colour, label in zip(colours, labels, strict=True))
            assert set(labels) != {"refused"}


def break_at_blue(classify: Callable[..., Prediction], data: bytes, *rest: Any) -> Prediction:
    if data == photo("blue"):
        raise ZeroDivisionError("a secret of the internals")
    return classify(data, *rest)


def test_an_unexpected_error_does_not_fail_the_other_images(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    apps: list[FastAPI] = []
    with running(settings, apps.append) as client:
        for classifier in apps[0].state.context.variants.active.classifiers:
            classifier.classify = functools.partial(break_at_blue, classifier.classify)
        response = client.post(BATCH, files=form(photo("red"), photo("blue"), photo("green")))
        assert samples(client)['edgewise_rejected_total{reason="internal_error"}'] == 1
    assert response.status_code == 200
    red, blue, green = response.json()["results"]
    assert [red["predictions"][0]["label"], green["predictions"][0]["label"]] == ["red", "green"]
    assert code(blue["problem"]) == "internal-error"
    assert "secret" not in response.text
    (failure,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert failure.exc_info is not None
    assert "a secret of the internals" in str(failure.exc_info[1])


def test_the_bytes_of_refused_images_are_freed_while_the_batch_waits(settings: Settings) -> None:
    large = photo("red", "BMP", (100, 80))
    parts = tracemalloc.Filter(inclusive=True, filename_pattern=multipart.__file__)

    def bytes_of_parts() -> int:
        traces = tracemalloc.take_snapshot().filter_traces([parts]).traces
        return sum(trace.size for trace in traces)

    tracemalloc.start()
    try:
        with ThreadPoolExecutor(1) as threads, blocked_worker(settings) as (client, pool):
            # Not through the client, which is closed before this is answered.
            url = f"{client.base_url}{BATCH}"
            answer = threads.submit(httpx.post, url, files=form(*[large] * 8), timeout=60)
            wait_for(lambda: pool.waiting == 1)
            # One waits for the worker; the other seven have no place.
            wait_for(lambda: len(large) <= bytes_of_parts() < 2 * len(large))
    finally:
        tracemalloc.stop()
    assert ["problem" in result for result in answer.result().json()["results"]] == [False] + 7 * [True]
