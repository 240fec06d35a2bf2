"""Large images while there is no free memory to decode them."""

import base64
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
from fastapi import FastAPI

from service.images.pixels import Crop
from service.images.room import Memory
from service.inference.classifier import Prediction
from service.inference.job import Job
from service.inference.pool import Pool
from service.settings import Settings
from tests.api.running import photo, running, samples
from tests.system.processes import wait_for

CLASSIFY = "/v1/classify"
LIMIT = 1_000_000
# A PNG takes 8 bytes a pixel.
LARGE = photo("red", size=(400, 300))


def ask(client: httpx.Client, content: bytes, **query: object) -> httpx.Response:
    return client.post(CLASSIFY, content=content, params={"top_k": 1, **query})


def pool_of(app: FastAPI) -> Pool:
    pool: Pool = app.state.context.pool
    return pool


def test_the_only_worker_answers_others_while_an_image_waits_for_memory(settings: Settings) -> None:
    apps: list[FastAPI] = []
    settings = settings.model_copy(update={"workers": 1, "max_decode_bytes": LIMIT})
    with running(settings, apps.append) as client, ThreadPoolExecutor(1) as threads:
        pool = pool_of(apps[0])
        with pool._room.hold(LIMIT):
            large = threads.submit(ask, client, LARGE)
            wait_for(lambda: pool._room.waiting == 1)
            assert ask(client, photo("blue")).json()["predictions"][0]["label"] == "blue"
            counted = samples(client)
            assert counted["edgewise_queue_depth"] == 1
            assert counted['edgewise_stage_seconds_count{stage="decode",variant="fp32"}'] == 1
            assert pool.oldest_since is None
            assert not large.done()
        # The next image makes the worker look at those that wait.
        assert ask(client, photo("blue")).status_code == 200
        assert large.result().json()["predictions"][0]["label"] == "red"


def test_an_image_that_waits_for_memory_is_refused_at_its_deadline(settings: Settings) -> None:
    apps: list[FastAPI] = []
    settings = settings.model_copy(update={"workers": 1, "max_decode_bytes": LIMIT})
    with running(settings, apps.append) as client:
        with pool_of(apps[0])._room.hold(LIMIT):
            late = ask(client, LARGE, timeout_ms=300)
        assert (late.status_code, late.json()["type"]) == (504, "/problems/deadline-exceeded")
        assert "no memory to decode it" in late.json()["detail"]
        assert samples(client)['edgewise_rejected_total{reason="deadline"}'] == 1
        assert ask(client, LARGE).status_code == 200


def test_images_queued_together_keep_their_places_if_another_returns(settings: Settings) -> None:
    apps: list[FastAPI] = []
    small = photo("blue")
    # The queue has memory for the large image and a small one, or for both small ones.
    limits = {"workers": 1, "max_decode_bytes": LIMIT, "queue_bytes": len(LARGE) + len(small)}
    with (
        running(settings.model_copy(update=limits), apps.append) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        pool, go = pool_of(apps[0]), threading.Event()
        (classifier,) = apps[0].state.context.variants.active.classifiers
        classify, check = classifier.classify, pool.check

        def delayed(data: bytes, crop: Crop, room: Memory) -> Prediction:
            assert go.wait(60)
            return classify(data, crop, room)

        def checked(deadline: float, jobs: Sequence[Job] = ()) -> None:
            check(deadline, jobs)
            if len(jobs) == 2:
                go.set()
                wait_for(lambda: pool._room.waiting == 1)

        classifier.classify, pool.check = delayed, checked
        with pool._room.hold(LIMIT):
            large = threads.submit(ask, client, LARGE)
            wait_for(lambda: pool.oldest_since is not None)
            both = {
                "name": "image",
                "shape": [2],
                "datatype": "BYTES",
                "parameters": {"content_type": "base64"},
                "data": [base64.b64encode(small).decode()] * 2,
            }
            response = client.post("/v2/models/colours/infer", json={"inputs": [both]})
            assert response.status_code == 200, response.text
        assert ask(client, small).status_code == 200
        assert large.result().status_code == 200


def test_services_of_one_process_have_separate_decode_memory(settings: Settings) -> None:
    apps: list[FastAPI] = []
    settings = settings.model_copy(update={"max_decode_bytes": LIMIT})
    with running(settings, apps.append), running(settings) as client, pool_of(apps[0])._room.hold(LIMIT):
        assert ask(client, LARGE).status_code == 200
