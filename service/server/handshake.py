"""Connections over TLS: accepted, and their handshakes and ends bounded in time and in number.

A server for TLS as uvicorn starts it gives a client a minute for the handshake and does not count
those that are under way: clients that connect and say nothing would take every descriptor. And uvloop
has one bound for what is yet to be sent when a connection is closed and for the client's farewell.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable

from service.server.unsent import queued_bytes

HANDSHAKE_SECONDS = 10.0
# How often to look at the connections that are being closed.
LOOK_SECONDS = 0.5
# What a client that has taken all gets to say that it, too, is done.
SHUTDOWN_SECONDS = 1.0
# What one gets that takes nothing more of its answer.
STALL_SECONDS = 20.0
# And any, in all.
CLOSE_SECONDS = 600.0
# How long to wait where the process has no descriptor left.
PAUSE_SECONDS = 0.1


class TlsListener:
    """Accepts on a listening socket; `connection` makes what speaks on it once the handshake is done.

    `context` is asked for with each connection, since a certificate may be renewed. Where more than `most`
    handshakes are under way, the oldest one gives way.
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
        # The oldest one first.
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._open_again: asyncio.TimerHandle | None = None
        self._connections: dict[socket.socket, asyncio.Transport] = {}
        # Of those that are being closed: bytes that are not taken, and since when it has been as many.
        self._unsent: dict[socket.socket, tuple[int, float]] = {}
        listener.setblocking(False)
        self._open()
        self._look()

    def close(self) -> None:
        """Accept nothing more, and give up the handshakes that are under way."""
        if self._open_again:
            self._open_again.cancel()
        self._loop.remove_reader(self._listener)
        for task in self._handshakes:
            task.cancel()

    async def wait_closed(self) -> None:
        """Return when the handshakes have ended."""
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
        # What strangers send is no error of the service; TLS itself tells them what was wrong.
        if task.cancelled() or task.exception():
            accepted.close()

    def _look(self) -> None:
        """Let go of connections that are being closed and whose clients do no more for it."""
        now = self._loop.time()
        for accepted, transport in list(self._connections.items()):
            if accepted.fileno() < 0:
                del self._connections[accepted]
                self._unsent.pop(accepted, None)
            elif transport.is_closing():
                # While the kernel has none, uvloop has none either.
                unsent = transport.get_write_buffer_size() + queued_bytes(accepted)
                before, since = self._unsent.get(accepted, (-1, now))
                if unsent != before:
                    self._unsent[accepted] = (unsent, now)
                elif now - since >= (STALL_SECONDS if unsent else SHUTDOWN_SECONDS):
                    transport.abort()
        # Also after `close`: whoever stops waits for these.
        self._loop.call_later(LOOK_SECONDS, self._look)
