"""Orderly shutdown: announce it, refuse new requests, finish accepted ones."""

import asyncio
import math
from contextlib import suppress

from service.errors import Draining


class Drain:
    """Counts the requests that are owed an answer: those inside `with drain`.

    Only for use in the event loop's thread.
    """

    def __init__(self) -> None:
        self.owed = 0
        self._refusing = False
        self._ends: float | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def check(self) -> None:
        """Raise Draining if the service is stopping."""
        if self._ends is not None:
            raise Draining(
                "the service is stopping", retry_after_seconds=max(1, math.ceil(self._seconds_left()))
            )

    def __enter__(self) -> None:
        """Delay the shutdown for the request that runs inside, until the time to drain is over.

        Raises:
            Draining: the service accepts nothing new; or, on exit, the time was over before the request
                was done.
        """
        if self._refusing:
            self.check()
        self.owed += 1
        self._idle.clear()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.owed -= 1
        if not self.owed:
            self._idle.set()
        if kind is asyncio.CancelledError and self._ends is not None:
            raise Draining("the service stopped before it could answer", retry_after_seconds=1) from None

    async def announce(self, grace_seconds: float, seconds: float) -> None:
        """Become unready, but still take new requests for `grace_seconds`.

        Probes and proxies are slow to notice. `seconds`: how long accepted requests have after that.
        """
        self._ends = asyncio.get_running_loop().time() + grace_seconds + seconds
        await asyncio.sleep(grace_seconds)

    async def finish(self) -> float:
        """Refuse new requests and wait for the accepted ones; return how many seconds are left for that."""
        self._refusing = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), self._seconds_left())
        return self._seconds_left()

    def _seconds_left(self) -> float:
        assert self._ends is not None  # noqa: S101
        return max(0.0, self._ends - asyncio.get_running_loop().time())
