"""How much many connections that send a byte a second slow another client down."""

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from tests.bench.capacity import measure_capacity
from tests.bench.photos import Photo
from tests.bench.plan import Plan
from tests.bench.sender import OK, REFUSED, Sender, Sent, evenly
from tests.bench.server import Server, serving

DEFAULT_CONNECTIONS = 200
# Of the capacity: low enough that the client's own requests don't wait for each other.
_SHARE = 0.5


@dataclass(frozen=True)
class Client:
    """Seconds from when a request was due to its answer: the medians of the rounds' percentiles."""

    requests: int
    p50: float
    p99: float
    refused: int
    failed: int


@dataclass(frozen=True)
class SlowSenders:
    """A client at `rate` requests/s, without slow senders and among them.

    `cut_off`: how many slow senders the service disconnected; each reconnected at once.
    """

    photo: str
    connections: int
    rate: float
    without: Client
    among: Client
    cut_off: int


def measure_slow_senders(plan: Plan, photo: Photo, connections: int, seconds: float) -> SlowSenders:
    """Measure a client for `seconds` alone, then among slow senders, in every round."""
    with serving(plan.folder, plan.server_cores, plan.settings) as server:
        plan.say("slow senders: the service's capacity")
        rate = _SHARE * measure_capacity(plan, server, photo)
        without, among, cut_off = list[list[Sent]](), list[list[Sent]](), 0
        for number in range(plan.rounds):
            plan.say(f"slow senders: round {number + 1} of {plan.rounds}")
            without.append(_one_client(server, photo, rate, seconds))
            with _slow_senders(server, len(photo.data), connections) as gone:
                among.append(_one_client(server, photo, rate, seconds))
            cut_off += len(gone)
    return SlowSenders(photo.name, connections, rate, _client(without), _client(among), cut_off)


def _one_client(server: Server, photo: Photo, rate: float, seconds: float) -> list[Sent]:
    return Sender(server, photo.data, connections=1).run(evenly(rate, seconds))


def _client(rounds: Sequence[Sequence[Sent]]) -> Client:
    percentiles = [np.percentile([request.latency for request in sent], (50, 99)) for sent in rounds]
    p50, p99 = np.median(percentiles, axis=0)
    statuses = [request.status for sent in rounds for request in sent]
    refused = sum(status in REFUSED for status in statuses)
    answered = sum(status == OK for status in statuses)
    return Client(len(statuses), float(p50), float(p99), refused, len(statuses) - refused - answered)


@contextmanager
def _slow_senders(server: Server, size: int, connections: int) -> Iterator[list[int]]:
    """Open connections that announce a body of `size` bytes; the list grows by one for each cut off."""
    stop, cut_off = threading.Event(), list[int]()
    open_ = [_announced(server, size) for _ in range(connections)]

    def send() -> None:
        number = 0
        # In turn, so that each sends a byte a second.
        while not stop.wait(1 / connections):
            try:
                open_[number].send(b"\xff")
                if open_[number].recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) is not None:
                    raise ConnectionResetError  # An answer, or the end.
            except BlockingIOError:
                pass
            except OSError:
                cut_off.append(number)
                open_[number].close()
                with contextlib.suppress(OSError):
                    open_[number] = _announced(server, size)
            number = (number + 1) % connections

    thread = threading.Thread(target=send)
    thread.start()
    try:
        stop.wait(1)  # Until each has sent its first byte.
        yield cut_off
    finally:
        stop.set()
        thread.join()
        for connection in open_:
            connection.close()


def _announced(server: Server, size: int) -> socket.socket:
    connection = socket.create_connection((server.host, server.port), timeout=5)
    head = f"POST /v1/classify HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: {size}\r\n\r\n"
    connection.sendall(head.encode())
    connection.setblocking(False)
    return connection
