"""A proxy for a node that adds delay and can be cut."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

DELAY_SECONDS = 0.02
_CHUNK_BYTES = 65536
_PHOTO = b"POST /v1/classify"


class Proxy:
    """Forwards bytes both ways, after a delay.

    `unanswered`: photos that had begun to reach the node when their connection broke.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.unanswered = 0
        self._node = host, port
        self._open = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        self._loop.call_soon_threadsafe(self._break)

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        """Forward during this context."""
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(server.close)
            self.cut()
            asyncio.run_coroutine_threadsafe(asyncio.sleep(2 * DELAY_SECONDS), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def _break(self) -> None:
        self._open = False
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        try:
            node_reader, node_writer = await asyncio.open_connection(*self._node)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, node_writer}
        self._writers |= both
        waiting = False

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            nonlocal waiting
            with suppress(OSError):
                while chunk := await source.read(_CHUNK_BYTES):
                    await asyncio.sleep(DELAY_SECONDS)
                    waiting = sink is node_writer and (waiting or chunk.startswith(_PHOTO))
                    sink.write(chunk)
                    await sink.drain()
            for each in both:
                each.close()

        await asyncio.gather(carry(reader, node_writer), carry(node_reader, writer))
        self.unanswered += waiting
        self._writers -= both
