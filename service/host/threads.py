"""Work in a thread that keeps nobody waiting if it never ends."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


async def in_daemon(work: Callable[[], _T]) -> _T:
    """Run `work` in its own thread, and return or raise what it does.

    Not `asyncio.to_thread`, whose threads are joined when the process ends: one that hangs in a device or a
    disk would keep the process alive forever.
    """
    return await asyncio.wrap_future(_begun(work))


def _begun(work: Callable[[], _T]) -> Future[_T]:
    future: Future[_T] = Future()
    # From now on it can't be cancelled: the caller may be gone when the work is done.
    future.set_running_or_notify_cancel()
    threading.Thread(target=_run, args=(work, future), daemon=True).start()
    return future


def _run(work: Callable[[], _T], future: Future[_T]) -> None:
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)
        # Otherwise the error's frames hold it, and so themselves, with everything that the work used.
        del future
