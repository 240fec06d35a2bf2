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
        self.is_closing = transport.is_closing
        self.write: Callable[[bytes], None] = self._keep

    def flush(self) -> None:
        """Write the head of an answer that has no body."""
        if self._head is not None:
            self._write_all(b"")

    def close(self) -> None:
        """Close once everything is written."""
        self.flush()
        self._transport.close()

    def _keep(self, head: bytes) -> None:
        self._head = head
        self.write = self._write_all

    def _write_all(self, body: bytes) -> None:
        head, self._head = self._head, None
        self.write = self._transport.write
        self.write(head + body if head else body)
