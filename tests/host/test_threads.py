import asyncio
import gc
import threading
import weakref
from contextlib import suppress

import pytest

from service.host.threads import in_daemon


class Model:
    """An object that a weak reference can watch."""


def test_the_result_comes_from_a_daemon_thread() -> None:
    assert asyncio.run(in_daemon(lambda: threading.current_thread().daemon)) is True


def test_an_error_is_passed_on_and_the_objects_of_the_work_are_freed() -> None:
    models: list[weakref.ref[Model]] = []

    def fail() -> None:
        model = Model()
        models.append(weakref.ref(model))
        raise ValueError("no such model")

    async def load() -> None:
        with pytest.raises(ValueError, match="no such model"):
            await in_daemon(fail)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(load())
        assert models[0]() is None
    finally:
        gc.enable()


def test_the_work_goes_on_if_the_caller_is_cancelled() -> None:
    started, gate, ended = (threading.Event() for _ in range(3))

    def work() -> None:
        started.set()
        gate.wait(30)
        ended.set()

    async def leave() -> None:
        waiting = asyncio.create_task(in_daemon(work))
        await asyncio.to_thread(started.wait, 30)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        gate.set()
        await asyncio.to_thread(ended.wait, 30)

    asyncio.run(leave())
    assert ended.is_set()
