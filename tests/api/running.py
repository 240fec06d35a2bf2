"""The real application behind the real server, in a thread, on a port of this machine."""

import asyncio
import functools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from typing import cast

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image

from service.app import create_app
from service.images.pixels import Crop
from service.images.room import Room
from service.inference.classifier import Prediction
from service.inference.pool import Pool
from service.monitoring.logs import ACCESS_LOGGER
from service.server.protocol import Protocol
from service.settings import Settings
from tests.colours import RGB
from tests.system.processes import wait_for


@contextmanager
def running(
    settings: Settings, prepare: Callable[[FastAPI], None] = lambda _: None
) -> Iterator[httpx.Client]:
    """A client of the application, which `prepare` may change before it starts."""
    app = create_app(settings)
    prepare(app)
    connection = functools.partial(Protocol, max_connections=100, refused=lambda *_: None)
    config = uvicorn.Config(
        app, http=cast(type[asyncio.Protocol], connection), lifespan="on", log_config=None
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_for(lambda: server.started)
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=address, timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def access_log(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    """The access log's records of the requests answered in the block; complete when it ends.

    A shared service may still log requests of an earlier test: records from before are left out.
    """
    began = time.time()
    records: list[logging.LogRecord] = []
    with caplog.at_level(logging.INFO, ACCESS_LOGGER):
        yield records
    records += [
        record for record in caplog.records if record.name == ACCESS_LOGGER and record.created >= began
    ]


@contextmanager
def blocked_worker(settings: Settings) -> Iterator[tuple[httpx.Client, Pool]]:
    """A client of a service whose only worker is busy until the block ends, and its pool; one may wait."""
    end = threading.Event()
    apps: list[FastAPI] = []
    with running(settings.model_copy(update={"workers": 1, "queue_size": 1}), apps.append) as client:
        context = apps[0].state.context
        (classifier,) = context.variants.active.classifiers
        classify = classifier.classify

        def blocked(data: bytes, crop: Crop, room: Room) -> Prediction:
            end.wait()
            return classify(data, crop, room)

        classifier.classify = blocked
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(client.post, "/v1/classify", content=photo("red"))
            try:
                wait_for(lambda: context.pool.oldest_since is not None)
                yield client, context.pool
            finally:
                end.set()
            assert answer.result().status_code == 200


def photo(colour: str, format_: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    """An image of one of the colours that the small bundle tells apart."""
    file = BytesIO()
    Image.new("RGB", size, RGB[colour]).save(file, format_)
    return file.getvalue()


def samples(client: httpx.Client) -> dict[str, float]:
    """Every sample of /metrics, by its name and labels as written there."""
    lines = client.get("/metrics").text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}
