"""Requests that are sent before the one in front of them is answered."""

import re
from contextlib import ExitStack

import httpx
import pytest

from service.server.protocol import MAX_PIPELINED, MAX_WAITING_HEADERS
from tests.system.connections import CHUNKED, IMAGE, LIVE, MEBIBYTE, connect, partial_request, read_all
from tests.system.processes import Service


def test_pipelined_requests_are_answered_in_order(small: Service) -> None:
    classify = b"POST /v1/classify HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(IMAGE) + IMAGE
    last = b"GET /nope HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(classify + LIVE + classify + LIVE * 10 + last)
        answers = read_all(connection)
    statuses = re.findall(rb"HTTP/1\.1 (\d+) ", answers)
    assert statuses == [b"200"] * 13 + [b"404"]
    order = [answers.index(b'"predictions"'), answers.index(b'"live"'), answers.rindex(b'"predictions"')]
    assert order == sorted(order)


def test_endless_pipelined_requests_take_no_memory(small: Service) -> None:
    before = small.memory("VmRSS")
    with ExitStack() as stack:
        connections = [connect(small, stack) for _ in range(4)]
        for connection in connections:
            connection.sendall(CHUNKED + b"1\r\nx\r\n0\r\n\r\n")
            connection.settimeout(3)
            with pytest.raises((ConnectionError, TimeoutError)):
                connection.sendall(LIVE * 4_000_000)
        assert small.memory("VmRSS") - before < 16 * MEBIBYTE
        assert httpx.get(small.url + "/livez", timeout=60).status_code == 200
    assert not [line for line in small.log if line["level"] == "error"]


@pytest.mark.parametrize("requests", [1, 3])
def test_accepted_requests_are_answered_despite_garbage_after_them(small: Service, requests: int) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(IMAGE)
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall((head + IMAGE) * requests + b"\x00 no HTTP\r\n\r\n")
        answers = read_all(connection)
    assert answers.count(b"HTTP/1.1 ") == answers.count(b"HTTP/1.1 200 OK") == requests
    assert answers.count(b'"predictions"') == requests


def test_of_too_many_pipelined_requests_the_first_are_answered(small: Service) -> None:
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(LIVE * (MAX_PIPELINED + 10))
        answers = read_all(connection)
    assert answers.count(b"HTTP/1.1 ") == answers.count(b"HTTP/1.1 200 OK") == MAX_PIPELINED + 1


def test_of_pipelined_requests_with_too_many_headers_the_first_are_answered(small: Service) -> None:
    headers = 100
    request = LIVE.replace(b"\r\n\r\n", b"\r\n" + (headers - LIVE.count(b": ")) * b"a:\r\n" + b"\r\n")
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(request * MAX_PIPELINED)
        answers = read_all(connection)
    expected = 1 + MAX_WAITING_HEADERS // headers
    assert answers.count(b"HTTP/1.1 ") == answers.count(b"HTTP/1.1 200 OK") == expected


def test_a_probe_is_answered_but_not_a_request_pipelined_behind_it(small: Service) -> None:
    with ExitStack() as stack:
        for _ in range(8):
            partial_request(small, stack)
        connection = connect(small, stack)
        connection.sendall(LIVE + LIVE.replace(b"/livez", b"/v1/variants"))
        answers = read_all(connection)
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert answers.count(b"HTTP/1.1 ") == 1
