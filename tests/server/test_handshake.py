"""How connections over TLS end."""

import asyncio
import functools
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import uvloop

from service.server import handshake
from service.server.handshake import TlsListener
from service.server.tls import renewed_certificate
from tests.certificates import Pair, make_pair, needs_openssl

pytestmark = needs_openssl

# More than the kernel buffers.
ANSWER_BYTES = 20_000_000

Wait = Callable[[], None]


class LastAnswer(asyncio.Protocol):
    """Answers any data and closes; sets `lost` once the connection is gone."""

    def __init__(self, lost: asyncio.Event) -> None:
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(bytes(ANSWER_BYTES))
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()


def ask(pair: Pair, port: int, wait: Wait, linger: Wait) -> int:
    """The bytes that a client receives which reads only after `wait` and closes only after `linger`."""
    received = 0
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        pair.client_context().wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(b"ask")
        wait()
        while received < ANSWER_BYTES and (more := connection.recv(65536)):
            received += len(more)
        linger()
    return received


def bytes_received(
    pair: Pair, *, wait_seconds: float = 0.0, waits_until_gone: bool = False, lingers_until_gone: bool = False
) -> int:
    """The bytes that such a client receives; the server must close the connection in the end."""
    gone = threading.Event()

    def until_gone() -> None:
        assert gone.wait(60)

    async def main() -> int:
        lost = asyncio.Event()
        tls = renewed_certificate(pair.certificate, pair.key)
        with socket.create_server(("127.0.0.1", 0)) as server:
            listener = TlsListener(server, lambda: tls.value.context, functools.partial(LastAnswer, lost), 4)
            port = server.getsockname()[1]
            wait = until_gone if waits_until_gone else lambda: time.sleep(wait_seconds)
            linger = until_gone if lingers_until_gone else lambda: None
            client = asyncio.create_task(asyncio.to_thread(ask, pair, port, wait, linger))
            await lost.wait()
            gone.set()
            listener.close()
            return await client

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main(), 45))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make_pair(tmp_path)


def test_a_slow_client_receives_the_whole_last_answer(pair: Pair) -> None:
    assert bytes_received(pair, wait_seconds=2.5) == ANSWER_BYTES


def test_a_client_that_never_closes_is_disconnected_after_its_answer(pair: Pair) -> None:
    assert bytes_received(pair, lingers_until_gone=True) == ANSWER_BYTES


def test_a_client_that_stops_reading_is_disconnected(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "STALL_SECONDS", 1.0)
    assert bytes_received(pair, waits_until_gone=True) < ANSWER_BYTES
