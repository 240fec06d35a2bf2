"""How an answer is written to its connection, and when reading from the connection resumes."""

from asyncio import Transport
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl


class Flow(FlowControl):
    """Does not resume reading while pipelined requests wait, or once the connection is ending."""

    def __init__(self, transport: Transport, waiting: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Resume reading, unless requests wait or the connection is ending."""
        if not self._waiting():
            super().resume_reading()

    def end(self) -> None:
        """Never resume reading again, and refer to nothing of the connection, which is closed.

        Otherwise the connection would refer to itself, and stay in memory with its last head until one of the
        rare garbage collections.
        """
        self._waiting = lambda: True


class Joined:
    """A transport for one answer that sends the head and the first part of the body in one write.

    Two writes cost two system calls, and wake the client twice.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._is_sent = False
        self.is_closing = transport.is_closing

    def write(self, part: bytes) -> None:
        """Write a part of the answer; the first one, the head, waits for the next."""
        if self._is_sent:
            self._transport.write(part)
        elif self._head is None:
            self._head = part
        else:
            self._send(self._head + part)

    def flush(self) -> None:
        """Write the head of an answer that has no body."""
        if self._head is not None:
            self._send(self._head)

    def close(self) -> None:
        """Close once everything is written."""
        self.flush()
        self._transport.close()

    def _send(self, begin: bytes) -> None:
        self._head, self._is_sent = None, True
        self._transport.write(begin)
