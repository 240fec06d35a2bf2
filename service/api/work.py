"""Handing an image to the workers, and waiting for its answer as long as the client does."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.inference.pool import Answer, Job, Pool

# In the scope's state: what the server calls when the client goes away.
ON_DISCONNECT = "on_disconnect"


async def classified(request: Request, pool: Pool, job: Job) -> Answer:
    """The workers' answer to `job`; where the client goes away first, no work is begun for it.

    Raises:
        QueueFull, WaitTooLong, DeadlineExceeded: as `Pool.submit` says.
        RequestError: what is wrong with the image.
        ClientDisconnect: the client went away.
    """
    future = pool.submit(job)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Answer] = loop.create_future()
    future.add_done_callback(lambda done: loop.call_soon_threadsafe(_hand_over, done, answer))
    state: dict[str, Any] = request.scope["state"]
    state[ON_DISCONNECT] = _leaving(answer)
    try:
        return await answer
    finally:
        del state[ON_DISCONNECT]
        future.cancel()


def _hand_over(done: Future[Answer], answer: asyncio.Future[Answer]) -> None:
    if answer.done():  # The client or the service is gone.
        return
    error = done.exception()
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(done.result())


def _leaving(answer: asyncio.Future[Answer]) -> Callable[[], None]:
    def leave() -> None:
        if not answer.done():
            answer.set_exception(ClientDisconnect())

    return leave
