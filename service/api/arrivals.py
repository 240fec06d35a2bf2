"""Reading bodies, with a minimum rate for each and a limit on the bytes of all together."""

import asyncio
from collections.abc import Callable

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.errors import BodyTooLarge, QueueFull, SlowBody

# No sender counts as too slow before the first, or gives way to others before the second.
GRACE_SECONDS = 5.0
MIN_SECONDS = 1.0


class _Arrival:
    """One arriving body: its bytes so far, and the timeout that ends reading it."""

    def __init__(self, timeout: asyncio.Timeout, started: float) -> None:
        self.timeout = timeout
        self.started = started
        self.received = 0
        self.gave_way = False


class Arrivals:
    """Reads bodies; only for use in the event loop's thread.

    A sender that falls behind `min_rate` bytes a second, or takes longer than `seconds`, is cut off.
    If all bodies together exceed `total_bytes`, the slowest gives way, so that slow senders can't hold
    the memory that others need.
    """

    def __init__(self, *, max_bytes: int, total_bytes: int, min_rate: float, seconds: float) -> None:
        self._max_bytes = max_bytes
        self._total_bytes = total_bytes
        self._min_rate = min_rate
        self._seconds = seconds
        self._arriving: set[_Arrival] = set()
        self._bytes = 0

    async def read(self, request: Request, take: Callable[[bytes], None]) -> None:
        """Pass the request's body to `take`, chunk by chunk.

        Raises:
            BodyTooLarge: it has, or announces, more than `max_bytes`.
            SlowBody: it arrived too slowly.
            QueueFull: there was no memory for it, and no other body was slower.
            ClientDisconnect: the client disconnected.
        """
        if int(request.headers.get("Content-Length", 0)) > self._max_bytes:
            raise self._too_large()
        now = asyncio.get_running_loop().time
        arrival = _Arrival(asyncio.timeout_at(now() + self._allowed(0)), now())
        self._arriving.add(arrival)
        try:
            async with arrival.timeout:
                await self._receive(request, arrival, take)
        except TimeoutError:
            raise self._cut_off(arrival, now() - arrival.started) from None
        finally:
            request.state.bytes_in = arrival.received
            self._forget(arrival)

    async def _receive(self, request: Request, arrival: _Arrival, take: Callable[[bytes], None]) -> None:
        now = asyncio.get_running_loop().time
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            if arrival.gave_way:
                # The message came before the timeout fired; this body is no longer counted.
                raise TimeoutError
            chunk: bytes = message.get("body", b"")
            arrival.received += len(chunk)
            self._bytes += len(chunk)
            if arrival.received > self._max_bytes:
                raise self._too_large()
            if self._bytes > self._total_bytes:
                self._make_room(arrival, now())
            take(chunk)
            more = message.get("more_body", False)
            if more:
                arrival.timeout.reschedule(arrival.started + self._allowed(arrival.received))

    def _allowed(self, received: int) -> float:
        """Seconds from its start that a body may take, once this much of it has arrived."""
        return min(self._seconds, GRACE_SECONDS + received / self._min_rate)

    def _make_room(self, arrival: _Arrival, now: float) -> None:
        while self._bytes > self._total_bytes:
            old = [a for a in self._arriving if now - a.started > MIN_SECONDS]
            slowest = min(old, key=lambda a: a.received / (now - a.started), default=None)
            if slowest is None or slowest is arrival:
                raise self._no_memory()
            if not slowest.timeout.expired():
                slowest.gave_way = True
                slowest.timeout.reschedule(now)
            self._forget(slowest)

    def _forget(self, arrival: _Arrival) -> None:
        if arrival in self._arriving:
            self._arriving.remove(arrival)
            self._bytes -= arrival.received

    def _cut_off(self, arrival: _Arrival, seconds: float) -> SlowBody | QueueFull:
        if arrival.gave_way:
            return self._no_memory()
        return SlowBody(
            f"{arrival.received} bytes of the body arrived in {seconds:.1f} seconds; it must arrive within"
            f" {self._seconds:g} seconds, at {self._min_rate:g} bytes a second or more"
        )

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body exceeds the limit of {self._max_bytes} bytes")

    def _no_memory(self) -> QueueFull:
        return QueueFull(
            f"the arriving bodies together exceed the limit of {self._total_bytes} bytes",
            retry_after_seconds=1,
        )
