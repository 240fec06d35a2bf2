"""Stopping in good order: refuse what is new, finish what was accepted."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from service.errors import Draining


class Drain:
    """Counts the requests that are owed an answer; belongs to the event loop's thread."""

    def __init__(self) -> None:
        self.owed = 0
        self._ends: float | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def check(self) -> None:
        """Raise Draining where the service is stopping."""
        if self._ends is not None:
            raise Draining("the service is stopping", retry_after_seconds=math.ceil(self._seconds_left()))

    @contextmanager
    def owing(self) -> Iterator[None]:
        """Hold the stop back, until the time to drain is over, for the request that runs inside.

        Raises:
            Draining: the service is stopping, or its time was over before the request was done.
        """
        self.check()
        self.owed += 1
        self._idle.clear()
        try:
            yield
        except asyncio.CancelledError:
            if self._ends is None:
                raise
            raise Draining("the service stopped before it could answer", retry_after_seconds=1) from None
        finally:
            self.owed -= 1
            if not self.owed:
                self._idle.set()

    async def finish(self, seconds: float) -> float:
        """Refuse new requests and wait, at most `seconds`, for the accepted ones; returns what is left."""
        self._ends = asyncio.get_running_loop().time() + seconds
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        return self._seconds_left()

    def _seconds_left(self) -> float:
        assert self._ends is not None  # noqa: S101
        return max(0.0, self._ends - asyncio.get_running_loop().time())
