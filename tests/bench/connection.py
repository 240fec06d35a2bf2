"""One keep-alive connection of a client that does not block: a request out, an answer in."""

import socket
from dataclasses import dataclass

_BUFFER_BYTES = 256 * 1024
_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Reply:
    """`status` 0: the connection ended without one. `reusable`: it may carry another request."""

    status: int
    retry_after: float | None
    reusable: bool


_LOST = Reply(0, None, reusable=False)


class Connection:
    """Ready for `start` when new, and after each reply that is reusable.

    `advance` is to be called when the socket, as its edge-triggered epoll says, has changed.
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
        """Send this request, as much of it as goes at once."""
        self._unsent = memoryview(request)
        self._send()

    def advance(self) -> Reply | None:
        """Send and receive what can be; the reply when it is whole, or the connection lost."""
        self._send()
        self._receive()
        reply = _reply(self._received)
        if reply is None:
            return _LOST if self._ended else None
        self._received.clear()
        if self._ended or self._unsent:
            # An early answer: the rest of the photo is not sent, so nothing else can be.
            return Reply(reply.status, reply.retry_after, reusable=False)
        return reply

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except OSError:
            # Either all that goes at once is sent, or the server closed the connection: whether it
            # answered before shows in what is received.
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
    """The reply, when all of it is there. The service gives each a Content-Length."""
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
