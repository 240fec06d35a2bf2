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
from tests.certificates import OPENSSL, Pair, made

pytestmark = pytest.mark.skipif(not OPENSSL, reason="openssl is absent")

# More than the kernel takes.
ANSWER_BYTES = 20_000_000

Wait = Callable[[], None]


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


def ask(pair: Pair, port: int, wait: Wait, linger: Wait) -> int:
    """The bytes of the answer, to a client that begins to read it late, and leaves late."""
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


def answered(
    pair: Pair, *, wait_seconds: float = 0.0, waits_until_gone: bool = False, lingers_until_gone: bool = False
) -> int:
    """What `ask` says of a client that does so until its connection is gone, which it must be in the end."""
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
    return made(tmp_path)


def test_a_last_answer_comes_whole_however_slowly_it_is_taken(pair: Pair) -> None:
    assert answered(pair, wait_seconds=2.5) == ANSWER_BYTES


def test_a_client_that_has_all_and_does_not_say_farewell_is_not_waited_for(pair: Pair) -> None:
    assert answered(pair, lingers_until_gone=True) == ANSWER_BYTES


def test_a_client_that_takes_nothing_more_is_let_go(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "STALL_SECONDS", 1.0)
    assert answered(pair, waits_until_gone=True) < ANSWER_BYTES
