"""HTTP/1.1 on a connection: uvicorn's, with bounds on what connections and heads may take.

uvicorn bounds neither the number of connections, nor the size of a head, nor the time that it takes
to arrive.
"""

import uuid
from asyncio import AbstractEventLoop, BaseTransport, Transport
from collections.abc import Callable
from typing import Any, cast

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.api.problems import MEDIA_TYPE, problem_document
from service.api.work import ON_DISCONNECT
from service.errors import TooManyConnections

# A head, or what is left of a body that nobody wants, must have come by then.
HEAD_SECONDS = 10.0
MAX_HEAD_BYTES = 64 * 1024
# A chunk of one byte comes in six.
_MAX_FRAMING = 16


class Protocol(HttpToolsProtocol):
    """One connection of at most `max_connections`; `refused` is called where one more is refused."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
        *,
        max_connections: int,
        refused: Callable[[], None],
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._max_connections = max_connections
        self._refused = refused
        self._idle_since = self.loop.time()
        self._fed = self._body_bytes = 0

    def connection_made(self, transport: BaseTransport) -> None:
        """Take a connection, in place of the one that is idle longest where there are too many."""
        super().connection_made(cast(Transport, transport))
        if len(self.connections) > self._max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the work for a client that is gone."""
        super().connection_lost(exc)
        leave = self.cycle and cast(dict[str, Any], self.cycle.scope)["state"].get(ON_DISCONNECT)
        if leave:
            leave()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def close_if_stalled(self) -> None:
        """Close where neither a request is answered nor the next one has come in time."""
        waits = self.timeout_keep_alive_task is not None
        if not self.busy and not waits and self.loop.time() - self._idle_since > HEAD_SECONDS:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self.timeout_keep_alive_task is not None:
            self._idle_since = self.loop.time()
        self._fed += len(data)
        super().data_received(data)
        if self._fed - _MAX_FRAMING * self._body_bytes > MAX_HEAD_BYTES + len(data):
            self.transport.abort()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._fed = self._body_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Some of a body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """The request is answered."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless an answer is on its way already."""
        if self.busy and self.cycle.response_started:
            self.transport.close()
        else:
            super().send_400_response(msg)
        if self.cycle is not None:
            # Else the application would answer too, on a connection that is closed.
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _make_room(self) -> None:
        others = (c for c in self.connections if isinstance(c, Protocol) and c is not self and not c.busy)
        idle = min(others, key=lambda c: c._idle_since, default=None)
        if idle is not None:
            self.connections.discard(idle)
            idle.transport.close()
        else:
            self._refused()
            self.transport.write(_refusal())
            self.transport.close()


def _refusal() -> bytes:
    error = TooManyConnections("every connection that the service takes is in use", retry_after_seconds=1)
    document = problem_document(error, str(uuid.uuid4())).model_dump_json().encode()
    head = (
        f"HTTP/1.1 {error.status} Service Unavailable\r\nContent-Type: {MEDIA_TYPE}\r\n"
        f"Content-Length: {len(document)}\r\nRetry-After: {error.retry_after_seconds}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + document
