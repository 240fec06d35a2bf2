"""Heads, chunks and trailers: their size, their format and what they may ask for."""

import json
import select
import time
from contextlib import ExitStack, suppress

import pytest

from tests.api.running import photo
from tests.system.connections import CHUNKED, IMAGE, LIVE, MEBIBYTE, connect, read_all
from tests.system.processes import Service

CLOSING = CHUNKED.replace(b"Host", b"Connection: close\r\nHost")


def test_the_answer_to_a_too_large_head_has_the_format_of_its_path(small: Service) -> None:
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(b"GET /v2/models HTTP/1.1\r\nHost: test\r\nCookie: " + b"x" * 70_000 + b"\r\n\r\n")
        problem = json.loads(read_all(connection).partition(b"\r\n\r\n")[2])
    assert problem["type"] == "/problems/head-too-large"
    assert problem["error"] == problem["detail"]


@pytest.mark.parametrize(
    ("first_part", "repeated_part"),
    [
        (b"GET /" + b"x" * 1000, b"x" * 10_000),
        (b"GET /livez HTTP/1.1\r\n", b"a: b\r\n" * 2_000),
        (b"GET /livez HTTP/1.1\r\nCookie: ", b"x" * 10_000),
        (CHUNKED + b"4;x=", b"x" * 10_000),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"a: b\r\n" * 2_000),
        (CHUNKED + b"1\r\nx\r\n0\r\na: ", b"x" * 10_000),
    ],
    ids=["line", "headers", "header", "chunk extension", "trailers", "trailer"],
)
def test_an_endless_head_or_framing_gets_a_431(
    small: Service, first_part: bytes, repeated_part: bytes
) -> None:
    before = small.memory("VmRSS")
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(first_part)
        # The service may have closed the connection already.
        with suppress(ConnectionError):
            for _ in range(5_000):
                if select.select([connection], [], [], 0)[0]:
                    break
                connection.sendall(repeated_part)
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"/problems/head-too-large" in answer
    assert small.memory("VmRSS") - before < 16 * MEBIBYTE


def test_a_body_in_chunks_of_one_byte_is_accepted(small: Service) -> None:
    with ExitStack() as stack:
        connection = connect(small, stack)
        image = photo("red", "BMP", (200, 100))
        body = b"".join(b"1\r\n%c\r\n" % byte for byte in image)
        assert len(body) > 300_000
        connection.sendall(CLOSING + body + b"0\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("offer", [b"h2c", b"websocket", b"TLS/1.3, h2c"])
@pytest.mark.parametrize("pause", [0, 0.2])
def test_a_protocol_upgrade_is_declined(small: Service, offer: bytes, pause: float) -> None:
    # As Java's client sends it in the first request of a connection.
    head = (
        b"POST /v1/classify?top_k=1 HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: %s\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\nContent-Length: %d\r\n\r\n" % (offer, len(IMAGE))
    )
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(head)
        time.sleep(pause)
        # Requests pipelined behind it are still HTTP/1.1.
        last = LIVE.replace(b"Host", b"Connection: Upgrade, close\r\nUpgrade: h2c\r\nHost")
        connection.sendall(IMAGE + head + IMAGE + last)
        answers = read_all(connection)
    assert answers.count(b"HTTP/1.1 ") == answers.count(b"HTTP/1.1 200 OK") == 3
    assert answers.count(b'"predictions"') == 2


def test_trailers_are_not_taken_for_headers(small: Service) -> None:
    body = b"%x\r\n%s\r\n0\r\n" % (len(IMAGE), IMAGE)
    trailers = b"X-Request-ID: smuggled\r\nContent-Type: multipart/form-data\r\n\r\n"
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(CLOSING + body + trailers)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"smuggled" not in answer


@pytest.mark.parametrize(("size", "status"), [(65_000, 200), (66_000, 431), (200_000, 431), (1_000_000, 431)])
def test_a_head_sent_at_once_is_held_to_the_size_limit(small: Service, size: int, status: int) -> None:
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\nCookie: " + b"x" * size + b"\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    ("count", "end", "status"),
    [(120, b"\r\n", 200), (130, b"\r\n", 431), (130, b"", 431), (10_000, b"\r\n", 431)],
    ids=["few", "many", "many, without an end", "very many"],
)
def test_a_head_is_held_to_a_number_of_headers(small: Service, count: int, end: bytes, status: int) -> None:
    # Short ones: the bytes are within the limit.
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\n" + b"a:\r\n" * count + end)
        assert connection.recv(65536).startswith(b"HTTP/1.1 %d " % status)


def test_white_space_behind_a_value_is_not_part_of_it(small: Service) -> None:
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: test \t\r\nX-Request-ID: abc \t\r\n\r\n")
        assert b"\r\nx-request-id: abc\r\n" in connection.recv(65536)
