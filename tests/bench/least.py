"""`python -m tests.bench.least`: the least that a server around the same work can be.

uvicorn on uvloop, and one thread that decodes and runs the model. Nothing is checked, limited, counted or
logged, and the answer is only the index of the top class. Of the service's settings it reads the variant.
"""

import asyncio
import json
import os
import socket
import sys
import threading
from queue import SimpleQueue
from typing import NamedTuple

import uvicorn
from starlette.types import Receive, Scope, Send

from service.bundle.folder import load_bundle
from service.host.process import keep_little_memory
from service.inference.classifier import Classifier
from service.settings import DEFAULT_BUNDLE


class _Work(NamedTuple):
    data: bytes
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[int]"


class Least:
    """An ASGI application with one worker thread."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._queue: SimpleQueue[_Work] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        del scope
        data = b""
        more = True
        while more:
            message = await receive()
            data += message.get("body", b"")
            more = message.get("more_body", False)
        loop = asyncio.get_running_loop()
        work = _Work(data, loop, loop.create_future())
        self._queue.put(work)
        body = b"%d" % await work.answer
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _work(self) -> None:
        while True:
            work = self._queue.get()
            index, _ = self._classifier.classify(work.data).top(1)[0]
            work.loop.call_soon_threadsafe(work.answer.set_result, index)


def main() -> None:
    """Serve on a free port, and print its URL as the service's log does."""
    keep_little_memory()
    app = Least(Classifier(load_bundle(DEFAULT_BUNDLE), os.environ["EDGEWISE_VARIANT"]))
    config = uvicorn.Config(app, loop="uvloop", http="httptools", lifespan="off", log_level="error")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{listening.getsockname()[1]}"}) + "\n")
        sys.stdout.flush()
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
