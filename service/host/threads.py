"""Work in a thread that keeps nobody waiting, should it never end."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

_T = TypeVar("_T")


async def in_daemon(work: Callable[[], _T]) -> _T:
    """What `work` returns or raises, done in a thread of its own.

    Not `asyncio.to_thread`, whose threads are waited for at the end of the process: what a device or a disk
    never gives back would keep it for ever.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def deliver(give: Callable[[], None]) -> None:
        if not done.done():  # Else nobody waits any more.
            give()

    def run() -> None:
        try:
            give = partial(done.set_result, work())
        except Exception as error:
            give = partial(done.set_exception, error)
        with contextlib.suppress(RuntimeError):  # The loop is closed: so is the service.
            loop.call_soon_threadsafe(deliver, give)

    threading.Thread(target=run, daemon=True).start()
    return await done
