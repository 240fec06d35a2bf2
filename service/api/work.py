"""Handing images to the workers, and waiting for their answers as long as the client does."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from time import monotonic
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.api.problems import unforeseen
from service.errors import (
    CorruptImage,
    DeadlineExceeded,
    ImageTooLarge,
    NoAnswer,
    RequestError,
    UnsupportedImage,
)
from service.inference.job import Answer, Job, no_worker_within
from service.inference.pool import Pool

# Key in the scope's state: what the server calls when the client disconnects.
ON_DISCONNECT = "on_disconnect"
# What becomes of an image that has its place in the queue, but gets no answer.
CLASSIFYING_ERRORS = (ImageTooLarge, UnsupportedImage, CorruptImage, NoAnswer, DeadlineExceeded)


async def classified(request: Request, pool: Pool, job: Job) -> Answer:
    """Return the workers' answer to `job`; if the client disconnects first, no work is begun for it.

    Raises:
        QueueFull, WaitTooLong, DeadlineExceeded: see `Pool.submit`.
        RequestError: something is wrong with the image.
        ClientDisconnect: the client disconnected.
    """
    future, answer = _submit(pool, job)
    state: dict[str, Any] = request.scope["state"]
    state[ON_DISCONNECT] = _leaving([answer])
    try:
        return await answer
    finally:
        del state[ON_DISCONNECT]
        future.cancel()


async def each_classified(
    request: Request, pool: Pool, jobs: Iterable[Job | RequestError], *, are_checked: bool = False
) -> list[Answer | RequestError]:
    """Return the workers' answer to each job, or why there is none, in order; each takes its own place.

    An image already known to be bad has its error in place of its job. `are_checked`: `Pool.check` has just
    admitted all of them together.

    Raises:
        ClientDisconnect: the client disconnected before all were answered.
    """
    futures: list[Future[Answer]] = []
    answers: list[asyncio.Future[Answer]] = []
    for job in jobs:
        try:
            if isinstance(job, RequestError):
                raise job
            future, answer = _submit(pool, job, is_checked=are_checked)
            futures.append(future)
        except RequestError as error:
            # Its frames hold the answers, and so the error: it would stay for long, with every image.
            error.__traceback__ = None
            answer = asyncio.get_running_loop().create_future()
            answer.set_exception(error)
        answers.append(answer)
        del job  # With its image, which now belongs to the pool.
    state: dict[str, Any] = request.scope["state"]
    state[ON_DISCONNECT] = _leaving(answers)
    try:
        results = await asyncio.gather(*answers, return_exceptions=True)
        return [_expected(result, request.state.id) for result in results]
    finally:
        del state[ON_DISCONNECT]
        for future in futures:
            future.cancel()


def _submit(
    pool: Pool, job: Job, *, is_checked: bool = False
) -> tuple[Future[Answer], asyncio.Future[Answer]]:
    """Return the worker's future, to cancel, and the event loop's, to await.

    At the deadline the event loop itself gives up a job that no worker has begun, as when all of them hang.
    """
    future = pool.submit(job, is_checked=is_checked)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Answer] = loop.create_future()
    future.add_done_callback(lambda done: loop.call_soon_threadsafe(_hand_over, done, answer))
    seconds = job.deadline - monotonic()
    timer = loop.call_later(seconds, _give_up, future, answer, seconds)
    answer.add_done_callback(lambda _: timer.cancel())
    return future, answer


def _give_up(future: Future[Answer], answer: asyncio.Future[Answer], seconds: float) -> None:
    if not answer.done() and future.cancel():
        answer.set_exception(no_worker_within(seconds))


def _expected(result: Answer | BaseException, id_: str) -> Answer | RequestError:
    if isinstance(result, Answer | RequestError):
        return result
    if isinstance(result, ClientDisconnect) or not isinstance(result, Exception):
        raise result
    # Whatever one image caused, the others get their answers.
    failure = unforeseen(result, id_)
    # Its frames hold the image, and the future that holds the error: both would stay in memory for long.
    result.__traceback__ = None
    return failure


def _hand_over(done: Future[Answer], answer: asyncio.Future[Answer]) -> None:
    if answer.done():  # The client or the service is gone.
        return
    error = done.exception()
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(done.result())


def _leaving(answers: Sequence[asyncio.Future[Answer]]) -> Callable[[], None]:
    def leave() -> None:
        for answer in answers:
            if not answer.done():
                answer.set_exception(ClientDisconnect())

    return leave
