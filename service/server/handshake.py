"""Accepting TLS connections, with limits on the number and duration of handshakes and on closing.

A TLS server started by uvicorn gives a client a minute for the handshake and does not count pending ones:
clients that connect and send nothing would use up every descriptor. And when a connection is closed, uvloop
has only one timeout for both the data still to be sent and the client's own close_notify.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable

from service.server.unsent import queued_bytes

HANDSHAKE_SECONDS = 10.0
# How often to check the connections that are closing.
LOOK_SECONDS = 0.5
# How long a client that has received everything may take to send its own close_notify.
SHUTDOWN_SECONDS = 1.0
# How long a client may stop reading its answer.
STALL_SECONDS = 20.0
# How long closing may take in all.
CLOSE_SECONDS = 600.0
# How long to wait before accepting again when the process has no descriptor left.
PAUSE_SECONDS = 0.1


class TlsListener:
    """Accepts connections on a listening socket; `connection` makes the protocol to run after the handshake.

    `context` is called for each connection, since the certificate can be renewed. If there would be more than
    `most` pending handshakes, the oldest one is dropped.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: Callable[[], ssl.SSLContext],
        connection: Callable[[], asyncio.Protocol],
        most: int,
    ) -> None:
        self._listener = listener
        self._context = context
        self._connection = connection
        self._most = most
        self._loop = asyncio.get_running_loop()
        # Oldest first.
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._open_again: asyncio.TimerHandle | None = None
        self._connections: dict[socket.socket, asyncio.Transport] = {}
        # For closing connections: bytes not yet acknowledged, and since when their number has not changed.
        self._unsent: dict[socket.socket, tuple[int, float]] = {}
        listener.setblocking(False)
        self._open()
        self._look()

    def close(self) -> None:
        """Stop accepting, and cancel pending handshakes."""
        if self._open_again:
            self._open_again.cancel()
        self._loop.remove_reader(self._listener)
        for task in self._handshakes:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until all handshakes have ended."""
        await asyncio.gather(*self._handshakes, return_exceptions=True)

    def _open(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            self._loop.remove_reader(self._listener)
            self._open_again = self._loop.call_later(PAUSE_SECONDS, self._open)
            return
        accepted.setblocking(False)
        if len(self._handshakes) >= self._most:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.cancel()
        task = self._loop.create_task(self._shake(accepted))
        self._handshakes[task] = None
        task.add_done_callback(lambda done: self._end(done, accepted))

    async def _shake(self, accepted: socket.socket) -> None:
        self._connections[accepted], _ = await self._loop.connect_accepted_socket(
            self._connection,
            accepted,
            ssl=self._context(),
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=CLOSE_SECONDS,
        )

    def _end(self, task: asyncio.Task[None], accepted: socket.socket) -> None:
        self._handshakes.pop(task, None)
        # A failed handshake is not the service's error; TLS itself tells the client what was wrong.
        if task.cancelled() or task.exception():
            accepted.close()

    def _look(self) -> None:
        """Abort closing connections whose clients make no more progress."""
        now = self._loop.time()
        for accepted, transport in list(self._connections.items()):
            if accepted.fileno() < 0:
                del self._connections[accepted]
                self._unsent.pop(accepted, None)
            elif transport.is_closing():
                # When the kernel's queue is empty, so is uvloop's.
                unsent = transport.get_write_buffer_size() + queued_bytes(accepted)
                before, since = self._unsent.get(accepted, (-1, now))
                if unsent != before:
                    self._unsent[accepted] = (unsent, now)
                elif now - since >= (STALL_SECONDS if unsent else SHUTDOWN_SECONDS):
                    transport.abort()
        # Also after `close`: the shutdown waits for these connections.
        self._loop.call_later(LOOK_SECONDS, self._look)
