"""An open-loop sender: requests are sent when they are due, whether or not earlier ones are answered.

Latency counts from when a request was due, so a slow server, or a connection that is not free, can't
hide. One thread with plain sockets, epoll and a request prepared in advance is cheap enough to offer
several times the service's capacity from one core.
"""

import gc
import heapq
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.bench.connection import Connection, Reply
from tests.bench.server import Server

# epoll sleeps for whole milliseconds; for shorter waits the sender spins.
_AWAKE_SECONDS = 0.0015
_ASLEEP_SECONDS = 0.1
# In place of a status: no answer, because the connection failed or time was up; never sent.
LOST, UNSENT = 0, -1
OK = 200
# With Retry-After, the client may try again.
REFUSED = frozenset({429, 503})


@dataclass(frozen=True)
class Sent:
    """One client's request; times in seconds since the start.

    `due`: when the first try was due; `sent`, `done`: of the last try. `status`: of the answer, or `LOST`
    or `UNSENT`. `retry_after`: the answer's, in seconds.
    """

    due: float
    sent: float
    done: float
    tries: int
    status: int
    retry_after: float | None

    @property
    def latency(self) -> float:
        """Seconds from when the request was due to its answer."""
        return self.done - self.due


def evenly(rate: float, seconds: float) -> list[float]:
    """Return when requests are due, `rate` per second for `seconds`."""
    return [number / rate for number in range(max(1, round(rate * seconds)))]


class _Due(NamedTuple):
    at: float
    first: float
    tries: int


class Sender:
    """Sends over at most `connections` at once, and reuses them as HTTP allows."""

    def __init__(self, server: Server, photo: bytes, *, connections: int, tries: int = 1) -> None:
        """`tries`: how often a refused client tries in all, each time after the Retry-After of the answer."""
        self._server = server
        self._request = _request(server, photo)
        self._limit = connections
        self._tries = tries
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._idle: list[Connection] = []
        self._under_way: dict[Connection, tuple[_Due, float]] = {}
        self._due: list[_Due] = []
        self._finished: list[Sent] = []

    def run(self, due: Sequence[float], *, patience: float = 15.0) -> list[Sent]:
        """Send a request at each of these times, in seconds from now, in ascending order.

        A request that finds no free connection for `patience` seconds is not sent; one without an answer
        `patience` seconds after the last was due is lost.
        """
        self._due = [_Due(at, at, 1) for at in due]
        gc.collect()
        gc.disable()  # A collection is a pause that would be blamed on the server.
        try:
            self._send(due[-1] + patience, patience)
        finally:
            gc.enable()
            for connection in list(self._connections.values()):
                self._forget(connection)
            self._epoll.close()
        return self._finished

    def _send(self, end: float, patience: float) -> None:
        start = time.perf_counter()
        now = 0.0
        while (self._due or self._under_way) and now < end:
            while self._due and self._due[0].at <= now and (connection := self._free()):
                self._under_way[connection] = (heapq.heappop(self._due), now)
                connection.start(self._request)
                now = time.perf_counter() - start
            while self._due and self._due[0].at < now - patience:
                due = heapq.heappop(self._due)
                self._finished.append(Sent(due.first, now, now, due.tries, UNSENT, None))
            for descriptor, _ in self._epoll.poll(self._sleep(now)):
                self._advance(descriptor, time.perf_counter() - start)
            now = time.perf_counter() - start
        under_way = self._under_way.values()
        self._finished += [Sent(due.first, sent, now, due.tries, LOST, None) for due, sent in under_way]
        self._finished += [Sent(due.first, now, now, due.tries, UNSENT, None) for due in self._due]

    def _sleep(self, now: float) -> float:
        free = self._idle or len(self._connections) < self._limit
        if not self._due or (self._due[0].at <= now and not free):
            return _ASLEEP_SECONDS
        return max(0.0, min(_ASLEEP_SECONDS, self._due[0].at - now - _AWAKE_SECONDS))

    def _free(self) -> Connection | None:
        if self._idle:
            return self._idle.pop()
        if len(self._connections) >= self._limit:
            return None
        connection = Connection(self._server.host, self._server.port)
        self._connections[connection.descriptor] = connection
        self._epoll.register(connection.descriptor, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        return connection

    def _advance(self, descriptor: int, now: float) -> None:
        connection = self._connections[descriptor]
        reply = connection.advance()
        if reply is None:
            return
        if connection in self._under_way:
            self._settle(*self._under_way.pop(connection), now, reply)
        else:  # The server closed an idle connection.
            self._idle.remove(connection)
        if reply.reusable:
            self._idle.append(connection)
        else:
            self._forget(connection)

    def _settle(self, due: _Due, sent: float, now: float, reply: Reply) -> None:
        if reply.status in REFUSED and reply.retry_after is not None and due.tries < self._tries:
            heapq.heappush(self._due, _Due(now + reply.retry_after, due.first, due.tries + 1))
        else:
            self._finished.append(Sent(due.first, sent, now, due.tries, reply.status, reply.retry_after))

    def _forget(self, connection: Connection) -> None:
        del self._connections[connection.descriptor]
        connection.close()


def _request(server: Server, photo: bytes) -> bytes:
    head = (
        f"POST /v1/classify HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(photo)}\r\n\r\n"
    )
    return head.encode() + photo
