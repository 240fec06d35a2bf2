import asyncio
import gc
import threading
import weakref
from contextlib import suppress

import pytest

from service.host.threads import in_daemon


class Model:
    """What can be asked whether it is still there."""


def test_it_gives_the_result() -> None:
    assert asyncio.run(in_daemon(lambda: threading.current_thread().daemon)) is True


def test_an_error_comes_through_and_nothing_that_the_work_had_stays() -> None:
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


def test_who_waits_may_leave() -> None:
    begun, let, ended = (threading.Event() for _ in range(3))

    def work() -> None:
        begun.set()
        let.wait(30)
        ended.set()

    async def leave() -> None:
        waiting = asyncio.create_task(in_daemon(work))
        await asyncio.to_thread(begun.wait, 30)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        let.set()
        await asyncio.to_thread(ended.wait, 30)

    asyncio.run(leave())
    assert ended.is_set()
