"""HTTP/1.1 on a connection: uvicorn's protocol, with limits on connections and request heads.

uvicorn limits neither the number of connections, nor the size of a head, nor the time it takes to arrive.
"""

from asyncio import AbstractEventLoop, BaseTransport, Transport
from typing import Any, ClassVar, cast

import httptools
from uvicorn import Config
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.api.access import ANSWERED, PROBES
from service.api.work import ON_DISCONNECT
from service.errors import HeadTooLarge, InvalidHttp, RequestError, TooManyConnections
from service.server.refusal import Note, refusal
from service.server.rules import broken_rule, check_head
from service.server.unsent import reset, untaken_bytes
from service.server.writing import Flow, Joined

# How long a request head, or the rest of a body that nobody reads, may take to arrive.
HEAD_SECONDS = 10.0
MAX_HEAD_BYTES = 64 * 1024
# A header of a few bytes takes over a hundred in memory: 32 MiB of short ones would take a gigabyte.
MAX_HEADERS = 128
# Reading pauses when more of a body than this is buffered; a single read of uvloop stays within it.
READ_AHEAD_BYTES = 256 * 1024
# A client that takes nothing of its answer for this long is gone, or malicious.
ANSWER_SECONDS = 20.0
# Bytes of answers that clients may leave untaken, all together: a batch can be answered by a megabyte.
MAX_UNTAKEN_BYTES = 32 * 1024 * 1024
# Bytes that may be received per byte of a body: a one-byte chunk takes six.
_MAX_FRAMING = 16
# Pipelined requests that may wait on a connection, and their headers.
MAX_PIPELINED = 32
MAX_WAITING_HEADERS = 1024
# Connections beyond the maximum, for probes only: a busy service must not be taken for dead.
PROBE_CONNECTIONS = 8
# How long the rest of what a refused client sends is discarded, and for how many clients at once: closing
# a connection with unread bytes resets it, and a reset can overtake the answer.
LINGER_SECONDS = 1.0
MAX_LINGERING = 16


class Protocol(HttpToolsProtocol):
    """One of at most `max_connections` connections.

    A few more are accepted, but refused once their request has arrived, unless it is a probe. `refused` is
    called for everything that is refused here, with the error and the client's address.
    """

    _lingering: ClassVar[set["Protocol"]] = set()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: AbstractEventLoop | None = None,
        *,
        max_connections: int,
        refused: Note,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.url, self.headers = b"", []
        self._max_connections = max_connections
        self._refused = refused
        self._idle_since = self.loop.time()
        # Bytes of this message, of its body alone, and of the last read.
        self._fed = self._body_bytes = self._came = 0
        # uvicorn's `cycle` is the last request whose head has arrived; pipelined ones wait for this one.
        self._running: RequestResponseCycle | None = None
        # Nothing more is parsed: the last answer is on its way, or was sent without a request.
        self._ending = False
        self._is_for_probes = False
        # The head of a request that offers another protocol, with the offer removed.
        self._declined = b""
        # Bytes written but not taken by the client, and since when their number has not changed.
        self._unsent = 0
        self._unsent_since = 0.0

    def connection_made(self, transport: BaseTransport) -> None:
        """Accept a connection; if there are too many, it replaces the one that has been idle longest."""
        super().connection_made(cast(Transport, transport))
        self.flow = Flow(self.transport, lambda: self._ending or bool(self.pipeline))
        if len(self.connections) > self._max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the work for a client that is gone."""
        super().connection_lost(exc)
        # After a reset the timer is still set, and would keep all this alive for up to a minute.
        self._unset_keepalive_if_required()
        self._lingering.discard(self)
        cast(Flow, self.flow).end()
        self.pipeline.clear()
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()
            leave = cast(dict[str, Any], self._running.scope)["state"].get(ON_DISCONNECT)
            if leave:
                leave()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._running is not None and not self._running.response_complete

    def close_if_stalled(self) -> None:
        """Close if the next request does not arrive in time, or the client stops taking its answer."""
        unsent = untaken_bytes(self.transport)
        if unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, self.loop.time()
        elif unsent and self.loop.time() - self._unsent_since > ANSWER_SECONDS:
            # Not `close`: it would wait for the client.
            reset(self.transport)
            return
        waits = self.timeout_keep_alive_task is not None
        if not self.busy and not waits and self.loop.time() - self._idle_since > HEAD_SECONDS:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, or discard them once the last answer is on its way."""
        if self._ending:
            return
        if self.timeout_keep_alive_task is not None:
            self._idle_since = self.loop.time()
        self._came = len(data)
        self._fed += self._came
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self._refuse(broken_rule(error))
            return
        is_long = self._fed - _MAX_FRAMING * self._body_bytes > MAX_HEAD_BYTES + self._came
        if is_long or len(self.headers) > MAX_HEADERS:
            self._refuse(_head_too_large())

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._fed = self._body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header without the white space behind its value, no part of it (RFC 9112, 5.1)."""
        super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """The request's head is complete."""
        method: bytes = self.parser.get_method()
        version: str = self.parser.get_http_version()
        if self.parser.should_upgrade() and method != b"CONNECT":
            lines = [method + b" " + self.url + b" HTTP/" + version.encode()]
            lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
            self._declined = b"\r\n".join([*lines, b"", b""])
            return
        # `_fed` does not count the read in which the request began.
        is_long = self._fed + self._came > MAX_HEAD_BYTES and self._head_bytes() > MAX_HEAD_BYTES
        if is_long or len(self.headers) > MAX_HEADERS:
            raise _head_too_large()
        if self._has_no_place():
            if not self.busy:  # Otherwise it keeps its place until it is answered.
                self.connections.discard(self)
            raise _too_many_connections()
        check_head(version, self.headers)
        # HTTP/1.0 has no interim responses.
        self.expect_100_continue = self.expect_100_continue and version != "1.0"
        super().on_headers_complete()
        # Trailers, after the body, must not become headers: a proxy in front has not checked them.
        self.headers = []
        headers = sum(len(cast(dict[str, Any], cycle.scope)["headers"]) for cycle, _ in self.pipeline)
        if len(self.pipeline) > MAX_PIPELINED or headers > MAX_WAITING_HEADERS:
            raise InvalidHttp(
                f"more than {MAX_PIPELINED} pipelined requests are waiting,"
                f" or more than {MAX_WAITING_HEADERS} headers of them"
            )

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._declined:
            return
        super().on_message_complete()
        if self.cycle.response_complete and self.timeout_keep_alive_task is None:
            # It was answered before its end, and the rest of it has stopped the keep-alive timer.
            self._idle_since = self.loop.time()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_body(self, body: bytes) -> None:
        """Store part of a body as uvicorn does, but without two more copies of one that arrives at once."""
        self._body_bytes += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        if not cycle.body:
            cycle.body = cast(bytearray, body)
        elif isinstance(cycle.body, bytearray):
            cycle.body += body
        else:
            cycle.body = bytearray(cycle.body) + body
        if len(cycle.body) > READ_AHEAD_BYTES:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_response_complete(self) -> None:
        """The request is answered."""
        if self._running is not None:
            # Nobody reads the rest of it, which the limit on all bodies together does not count.
            self._running.body = bytearray()
            if isinstance(self._running.transport, Joined):
                self._running.transport.flush()
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def _parse(self, data: bytes) -> None:
        """Parse received bytes, ignoring offers to switch to another protocol.

        Java's client and others offer HTTP/2 in the first request of each connection. The parser stops after
        such a head, as if the other protocol began there, so it is fed the head again without the offer.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                head, self._declined = self._declined, b""
                if head:
                    self.parser = httptools.HttpRequestParser(self)
                data = head and head + data[upgrade.args[0] :]
            else:
                return

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        if not cycle.waiting_for_100_continue:
            cycle.transport = cast(Transport, Joined(self.transport))
        super()._start_asgi_task(cycle, app)

    def _make_room(self) -> None:
        others = (c for c in self.connections if isinstance(c, Protocol) and c is not self and not c.busy)
        idle = min(others, key=lambda c: c._idle_since, default=None)
        if idle is not None:
            self._is_for_probes = idle._is_for_probes
            self.connections.discard(idle)
            if idle.transport.get_write_buffer_size():
                idle.transport.close()
                self.loop.call_later(LINGER_SECONDS, idle.transport.abort)
            else:
                # Not `close`: over TLS it would wait for the client, and keep the descriptor.
                idle.transport.abort()
        elif len(self.connections) <= self._max_connections + PROBE_CONNECTIONS:
            self._is_for_probes = True
        else:
            self.connections.discard(self)
            self._refuse(_too_many_connections())

    def _has_no_place(self) -> bool:
        if len(self.connections) <= self._max_connections:
            self._is_for_probes = False
        return self._is_for_probes and self._path() not in PROBES

    def _path(self) -> str:
        """The requested path, as far as the target has arrived; the target can be a whole URL."""
        try:
            path: bytes | None = httptools.parse_url(self.url).path
        except httptools.HttpParserInvalidURLError:
            return ""
        return (path or b"").decode("latin-1")

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _refuse(self, error: RequestError) -> None:
        """Answer with this error, unless an answer is already on its way."""
        self._ending = True
        self.headers.clear()  # Not to be kept until the connection ends.
        self._refused(error, self.client[0] if self.client else None)
        running = self._running
        if running is not None and self.busy and not running.more_body:
            # It is complete, as others that wait may be: all are answered, since the fault came after them.
            while self.pipeline and self.pipeline[0][0].more_body:
                self.pipeline.popleft()
            last = self.pipeline[0][0] if self.pipeline else running
            last.keep_alive = False
            self.flow.pause_reading()
            return
        if running is not None and self.busy and running.response_started:
            self.transport.close()
        else:
            self._end(error)
            if running is not None and self.busy:
                cast(dict[str, Any], running.scope)["state"][ANSWERED] = error.status
        if running is not None:
            # Otherwise the application would also answer, on a closed connection.
            running.disconnected = True
            running.message_event.set()

    def _end(self, error: RequestError) -> None:
        """Send an answer without a request, and close once the client has had time to read it."""
        self.transport.write(refusal(error, self._path()))
        if len(self._lingering) < MAX_LINGERING:
            self._lingering.add(self)
            self.loop.call_later(LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(
        f"the head, or the body's framing, exceeds the limit of {MAX_HEAD_BYTES} bytes"
        f" or {MAX_HEADERS} headers"
    )


def _too_many_connections() -> TooManyConnections:
    return TooManyConnections("all connections that the service allows are in use", retry_after_seconds=1)


def close_stalled(state: ServerState) -> None:
    """Close the connections whose clients send nothing, or take nothing, in time.

    If clients leave more than `MAX_UNTAKEN_BYTES` of their answers, those that have taken nothing for longest
    are closed sooner.
    """
    connections = [each for each in list(state.connections) if isinstance(each, Protocol)]
    for connection in connections:
        connection.close_if_stalled()
    excess = sum(connection._unsent for connection in connections) - MAX_UNTAKEN_BYTES
    for connection in sorted(connections, key=lambda each: each._unsent_since):
        if excess <= 0:
            break
        if connection._unsent:
            excess -= connection._unsent
            reset(connection.transport)
