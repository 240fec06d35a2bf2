"""A non-blocking keep-alive connection of a client: one request at a time."""

import socket
from dataclasses import dataclass

_BUFFER_BYTES = 256 * 1024
_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Reply:
    """An answer. `status` 0: the connection ended without one. `reusable`: it can carry another request."""

    status: int
    retry_after: float | None
    reusable: bool


_LOST = Reply(0, None, reusable=False)


class Connection:
    """A connection that is ready for `start` when it is new, and after each reusable reply.

    Call `advance` whenever an edge-triggered epoll reports a change of the socket.
    """

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.connect_ex((host, port))
        self.descriptor = self._socket.fileno()
        self._unsent = memoryview(b"")
        self._received = bytearray()
        self._ended = False

    def start(self, request: bytes) -> None:
        """Send a request, as much of it as the socket accepts at once."""
        self._unsent = memoryview(request)
        self._send()

    def advance(self) -> Reply | None:
        """Send and receive what is possible; return the reply once it is complete, or lost."""
        self._send()
        self._receive()
        reply = _reply(self._received)
        if reply is None:
            return _LOST if self._ended else None
        self._received.clear()
        if self._ended or self._unsent:
            # An early answer: the rest of the photo was not sent, so no other request can be.
            return Reply(reply.status, reply.retry_after, reusable=False)
        return reply

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except OSError:
            # Either the socket is full, or the server closed the connection: what is received shows
            # whether it answered first.
            return

    def _receive(self) -> None:
        while not self._ended:
            try:
                data = self._socket.recv(_BUFFER_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self._received += data
            self._ended = not data


def _reply(received: bytearray) -> Reply | None:
    """Return the reply once all of it is received. Each of the service's has a Content-Length."""
    end = received.find(_END)
    if end < 0:
        return None
    status, *lines = bytes(received[:end]).split(b"\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    if len(received) < end + len(_END) + int(fields[b"content-length"]):
        return None
    retry_after = fields.get(b"retry-after")
    return Reply(
        int(status.split()[1]),
        None if retry_after is None else float(retry_after),
        reusable=fields.get(b"connection", b"").lower() != b"close",
    )
