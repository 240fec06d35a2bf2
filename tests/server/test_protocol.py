"""Connections whose clients stall, do not read their answers, or send too much meanwhile."""

import asyncio
import functools
import gc
import logging
import socket
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, cast

import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.responses import Response, StreamingResponse
from uvicorn.server import ServerState

from service.errors import HeadTooLarge, RequestError, TooManyConnections
from service.monitoring.logs import SERVICE_LOGGER
from service.monitoring.metrics import REASONS, Metrics
from service.server import protocol
from service.server.protocol import MAX_HEAD_BYTES, Protocol, close_stalled
from service.server.refusal import Note, noted
from service.settings import LogRequests

ASK = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
UNFINISHED = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\nhalf"
ENDLESS = b"GET / HTTP/1.1\r\nHost: test\r\nCookie: "


def pieces() -> Iterator[bytes]:
    for _ in range(200):
        yield bytes(2**16)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


@contextmanager
def asking(port: int) -> Iterator[socket.socket]:
    """A client that sends a request and reads no answer."""
    with connected(port) as connection:
        connection.sendall(ASK)
        yield connection


def run(
    test: Callable[[ServerState, int], Coroutine[Any, Any, None]],
    app: object,
    refused: Note = lambda *_: None,
) -> None:
    async def main() -> None:
        state = ServerState()
        config = uvicorn.Config(cast(Any, app), log_config=None, lifespan="off")
        connection = functools.partial(Protocol, config, state, {}, max_connections=2, refused=refused)
        server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
        async with server:
            await test(state, server.sockets[0].getsockname()[1])

    asyncio.run(asyncio.wait_for(main(), 60))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def read_to_end(client: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(client, 2**20):
        pass


async def steady(state: ServerState, connection: Protocol) -> None:
    """Wait until the kernel takes no more of an answer that the client does not read."""
    loop = asyncio.get_running_loop()
    while not connection._unsent or loop.time() - connection._unsent_since < 0.5:
        await asyncio.sleep(0.05)
        close_stalled(state)


async def flood(client: socket.socket) -> None:
    """Send far more than kernels buffer; after each piece the server has its turn and could read more."""
    for _ in range(1000):
        client.send(bytes(2**16))
        await asyncio.sleep(0)


async def not_found(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers at once and reads no body."""
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


def test_connections_without_a_whole_head_in_time_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(state: ServerState, port: int) -> None:
        with connected(port) as silent, connected(port) as dripping:
            await until(lambda: len(state.connections) == 2)
            close_stalled(state)
            assert len(state.connections) == 2
            monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
            dripping.sendall(b"GET / HTTP/1.1\r\nA: ")
            while state.connections:
                await asyncio.sleep(0.05)
                with suppress(ConnectionError):
                    dripping.sendall(b"x")
                close_stalled(state)
            assert silent.recv(1) == b""

    run(test, not_found)


def test_a_connection_stays_open_after_an_answer_before_the_bodys_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(state: ServerState, port: int) -> None:
        loop = asyncio.get_running_loop()
        with connected(port) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, UNFINISHED)
            assert (await loop.sock_recv(client, 65536)).startswith(b"HTTP/1.1 404 ")
            await loop.sock_sendall(client, b"half")
            (connection,) = cast(set[Protocol], state.connections)
            await until(lambda: connection._body_bytes == 8)
            monkeypatch.setattr(protocol, "HEAD_SECONDS", 0)
            close_stalled(state)
            await loop.sock_sendall(client, ASK)
            assert (await loop.sock_recv(client, 65536)).startswith(b"HTTP/1.1 404 ")

    run(test, not_found)


def test_a_client_that_does_not_read_its_answer_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "ANSWER_SECONDS", 0.2)

    async def test(state: ServerState, port: int) -> None:
        with asking(port):
            await until(lambda: bool(state.tasks))
            (connection,) = cast(set[Protocol], state.connections)
            await until(lambda: connection.transport.get_write_buffer_size() > 0)
            close_stalled(state)
            assert connection.busy
            # The kernel may take more of the answer until then.
            while state.connections:
                await asyncio.sleep(0.3)
                close_stalled(state)
            await until(lambda: not state.tasks)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await StreamingResponse(pieces())(scope, receive, send)

    run(test, app)


def test_an_answer_that_the_kernel_holds_is_not_taken_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "ANSWER_SECONDS", 0.2)

    async def test(state: ServerState, port: int) -> None:
        with asking(port) as client:
            await until(lambda: state.total_requests == 1)
            (connection,) = cast(set[Protocol], state.connections)
            await until(lambda: not connection.busy)
            assert connection.transport.get_write_buffer_size() == 0
            while state.connections:
                await asyncio.sleep(0.3)
                close_stalled(state)
            # What the kernel held is discarded: the client gets no more than it had.
            client.setblocking(False)
            with pytest.raises(ConnectionResetError):
                await read_to_end(client)

    run(test, Response(bytes(500_000)))


def test_of_too_many_untaken_answers_the_oldest_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(state: ServerState, port: int) -> None:
        with asking(port):
            await until(lambda: len(state.tasks) == 1)
            (older,) = cast(set[Protocol], state.connections)
            await steady(state, older)
            with asking(port):
                await until(lambda: len(state.tasks) == 2)
                (newer,) = cast(set[Protocol], state.connections) - {older}
                await steady(state, newer)
                assert state.connections == {older, newer}
                monkeypatch.setattr(protocol, "MAX_UNTAKEN_BYTES", older._unsent // 2 + newer._unsent)
                close_stalled(state)
                await until(lambda: state.connections == {newer})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await StreamingResponse(pieces())(scope, receive, send)

    run(test, app)


def test_a_client_that_reads_its_answer_slowly_stays_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "ANSWER_SECONDS", 0.5)

    async def test(state: ServerState, port: int) -> None:
        with asking(port) as client:
            client.setblocking(False)
            await until(lambda: bool(state.tasks))
            # The kernel buffers megabytes, so that it takes more only every few seconds.
            for _ in range(25):
                await asyncio.get_running_loop().sock_recv(client, 2**15)
                await asyncio.sleep(0.1)
                close_stalled(state)
            assert state.connections

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await StreamingResponse(pieces())(scope, receive, send)

    run(test, app)


def test_a_connection_closed_for_a_newer_one_is_gone_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 0.1)
    gone: list[Protocol] = []
    lost = Protocol.connection_lost

    def connection_lost(self: Protocol, exc: Exception | None) -> None:
        gone.append(self)
        lost(self, exc)

    monkeypatch.setattr(Protocol, "connection_lost", connection_lost)

    async def test(state: ServerState, port: int) -> None:
        with ExitStack() as stack:
            for count in range(1, 4):
                stack.enter_context(asking(port))
                await until(lambda count=count: state.total_requests == count)  # type: ignore[misc]
            await until(lambda: len(gone) == 1)
            assert len(state.connections) == 2

    async def app(scope: Any, receive: Any, send: Any) -> None:
        length = b"%d" % (200 * 2**16)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": bytes(200 * 2**16)})

    run(test, app)


@pytest.mark.parametrize(
    ("others", "pipelined", "continuation", "error"),
    [
        (0, ASK.replace(b"Host", b"Cookie: " + b"x" * MAX_HEAD_BYTES + b"\r\nHost"), b"", HeadTooLarge),
        (0, ENDLESS, b"x" * 10_000, HeadTooLarge),
        (2, ASK, b"", TooManyConnections),
    ],
    ids=["large head", "large head in pieces", "no connection"],
)
def test_a_refusal_behind_a_request_does_not_count_as_invalid_http(
    others: int,
    pipelined: bytes,
    continuation: bytes,
    error: type[RequestError],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, SERVICE_LOGGER)
    metrics = Metrics(CollectorRegistry())
    count = noted(metrics, LogRequests.ALL)
    errors: list[RequestError] = []
    started: list[Any] = []
    may_answer = asyncio.Event()

    def refused(refusal: RequestError, client: str | None) -> None:
        errors.append(refusal)
        count(refusal, client)

    async def test(state: ServerState, port: int) -> None:
        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            for number in range(others):
                stack.enter_context(asking(port))
                await until(lambda number=number: len(started) == number + 1)  # type: ignore[misc]
            client = stack.enter_context(connected(port))
            client.setblocking(False)
            await loop.sock_sendall(client, ASK.replace(b"/", b"/livez", 1))
            await until(lambda: len(started) == others + 1)
            await loop.sock_sendall(client, pipelined)
            while not errors:
                await loop.sock_sendall(client, continuation)
                await asyncio.sleep(0.01)
            may_answer.set()
            answer = b""
            while more := await loop.sock_recv(client, 65536):
                answer += more
            assert answer.startswith(b"HTTP/1.1 404 ")
            assert answer.count(b"HTTP/1.1 ") == 1

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.append(scope)
        await may_answer.wait()
        await not_found(scope, receive, send)

    run(test, app, refused)
    assert [type(refusal) for refusal in errors] == [error]
    for kind, reason in REASONS.items():
        labels = {"reason": reason}
        assert metrics.registry.get_sample_value("edgewise_rejected_total", labels) == (kind is error)
    assert not caplog.records


def test_a_refused_head_behind_a_pending_request_is_read_no_further() -> None:
    refused: list[RequestError] = []
    may_answer = asyncio.Event()

    async def test(state: ServerState, port: int) -> None:
        loop = asyncio.get_running_loop()
        with asking(port) as client:
            await until(lambda: bool(state.tasks))
            client.setblocking(False)
            await loop.sock_sendall(client, ENDLESS)
            while not refused:
                await loop.sock_sendall(client, b"x" * 10_000)
                await asyncio.sleep(0.01)
            with pytest.raises(BlockingIOError):
                await flood(client)
            may_answer.set()
            assert (await loop.sock_recv(client, 65536)).startswith(b"HTTP/1.1 404 ")
        await until(lambda: not state.connections)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await may_answer.wait()
        await not_found(scope, receive, send)

    run(test, app, lambda error, _: refused.append(error))
    assert len(refused) == 1


@pytest.mark.parametrize(
    "sent", [ASK, ENDLESS, UNFINISHED], ids=["answered", "within a head", "within a body"]
)
def test_a_closed_connection_does_not_wait_for_a_garbage_collection(sent: bytes) -> None:
    begun: list[Any] = []

    async def test(state: ServerState, port: int) -> None:
        with connected(port) as client:
            client.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(client, sent)
            await until(lambda: bool(state.connections) and (sent == ENDLESS or len(begun) == 1))
            (connection,) = cast(set[Protocol], state.connections)
            closed: list[weakref.ref[Any]] = [weakref.ref(connection)]
            if connection._running is not None:
                closed.append(weakref.ref(connection._running.transport))
            del connection
        gc.disable()
        try:
            await until(lambda: not state.connections and not state.tasks)
            await asyncio.sleep(0.1)
            assert not [reference for reference in closed if reference() is not None]
        finally:
            gc.enable()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.append(None)
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] != "http.disconnect":
            await not_found(scope, receive, send)

    run(test, app)
