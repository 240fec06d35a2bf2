"""How connections over TLS end."""

import asyncio
import functools
import socket
import time
from pathlib import Path
from typing import cast

import pytest
import uvloop

from service.server import handshake
from service.server.handshake import TlsListener
from service.server.tls import renewed_certificate
from tests.certificates import OPENSSL, Pair, made

pytestmark = pytest.mark.skipif(not OPENSSL, reason="openssl is absent")

# More than the kernel takes.
ANSWER_BYTES = 20_000_000


class LastAnswer(asyncio.Protocol):
    """Answers whatever comes, and closes; `lost` is done when the connection is gone."""

    def __init__(self, lost: asyncio.Event) -> None:
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(bytes(ANSWER_BYTES))
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()


def ask(pair: Pair, port: int, wait_seconds: float, linger_seconds: float) -> int:
    """The bytes of the answer, to a client that begins to read it late, and leaves late."""
    received = 0
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        pair.client_context().wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(b"ask")
        time.sleep(wait_seconds)
        while received < ANSWER_BYTES and (more := connection.recv(65536)):
            received += len(more)
        time.sleep(linger_seconds)
    return received


def answered(pair: Pair, wait_seconds: float, linger_seconds: float = 0.0) -> tuple[int, float]:
    """What `ask` says, and the seconds until the connection was gone."""

    async def main() -> tuple[int, float]:
        lost = asyncio.Event()
        tls = renewed_certificate(pair.certificate, pair.key)
        with socket.create_server(("127.0.0.1", 0)) as server:
            listener = TlsListener(server, lambda: tls.value.context, functools.partial(LastAnswer, lost), 4)
            started = time.monotonic()
            port = server.getsockname()[1]
            asking = asyncio.to_thread(ask, pair, port, wait_seconds, linger_seconds)
            client = asyncio.create_task(asking)
            await lost.wait()
            seconds = time.monotonic() - started
            listener.close()
            return await client, seconds

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main(), 30))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return made(tmp_path)


def test_a_last_answer_comes_whole_however_slowly_it_is_taken(pair: Pair) -> None:
    received, _ = answered(pair, wait_seconds=2.5)
    assert received == ANSWER_BYTES


def test_a_client_that_has_all_and_does_not_say_farewell_is_not_waited_for(pair: Pair) -> None:
    received, seconds = answered(pair, wait_seconds=0, linger_seconds=6)
    assert received == ANSWER_BYTES
    assert seconds < 5


def test_a_client_that_takes_nothing_more_is_let_go(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "STALL_SECONDS", 1.0)
    received, seconds = answered(pair, wait_seconds=5)
    assert received < ANSWER_BYTES
    assert seconds < 4
