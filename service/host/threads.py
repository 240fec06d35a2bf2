"""Work in a thread that keeps nobody waiting, should it never end."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


async def in_daemon(work: Callable[[], _T]) -> _T:
    """What `work` returns or raises, done in a thread of its own.

    Not `asyncio.to_thread`, whose threads are waited for at the end of the process: what a device or a disk
    never gives back would keep it for ever.
    """
    return await asyncio.wrap_future(_begun(work))


def _begun(work: Callable[[], _T]) -> Future[_T]:
    future: Future[_T] = Future()
    # From now on it can't be cancelled, and who waited may be gone when it is done.
    future.set_running_or_notify_cancel()
    threading.Thread(target=_run, args=(work, future), daemon=True).start()
    return future


def _run(work: Callable[[], _T], future: Future[_T]) -> None:
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)
        # Else the error's frames hold it, and so themselves, with all that the work had in hand.
        del future
