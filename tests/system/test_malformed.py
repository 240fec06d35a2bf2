"""Requests that violate HTTP, before or while they are answered."""

import json
from collections.abc import Iterator

import httpx
import pytest

from service.bundle.folder import Bundle
from tests.system.connections import connected, exchange, read_all
from tests.system.processes import Service, serving

HEAD = b"POST /v1/classify%s HTTP/1.1\r\nHost: test\r\n%s\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
LIVE = b"GET /livez HTTP/%s\r\n%s\r\n"
WHOLE = b"4\r\nsome\r\n0\r\n\r\n"
BAD_CHUNK = b"4\r\nsome\r\nZZ\r\n"


@pytest.fixture(scope="module")
def served(colours: Bundle) -> Iterator[Service]:
    """A service that must log no error until it ends."""
    with serving(bundle=colours.path) as service:
        yield service
    assert not [entry for entry in service.log if entry["level"] == "error"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([HEAD % (b"", CHUNKED) + BAD_CHUNK], b"400"),
        ([HEAD % (b"?top_k=0", CHUNKED) + BAD_CHUNK], b"400"),
        ([HEAD % (b"?top_k=0", CHUNKED), BAD_CHUNK], b"422"),
        # The answer announces that the connection closes, so data after the body is not a request.
        ([HEAD % (b"?top_k=0", CHUNKED), WHOLE + HEAD % (b"", b"Content-Length: 0")], b"422"),
        ([HEAD % (b"", b"Content-Length: -4") + b"some"], b"400"),
        ([bytes(100) + b"\r\n\r\n"], b"400"),
        ([LIVE % (b"1.1", b"")], b"400"),
        ([LIVE % (b"1.1", b"Host: a\r\nHost: a\r\n")], b"400"),
        ([LIVE % (b"1.1", b"Connection: Upgrade\r\nUpgrade: h2c\r\n")], b"400"),
        ([LIVE % (b"1.0", b"Host: a\r\nHost: b\r\n")], b"400"),
        ([LIVE % (b"1.0", b"")], b"200"),
        ([LIVE % (b"1.1", b"Host:\r\nConnection: close\r\n")], b"200"),
        ([LIVE % (b"2.0", b"Host: a\r\n")], b"400"),
        ([b"GET /livez\r\n\r\n"], b"400"),
        ([HEAD % (b"", b"Transfer-Encoding: gzip, chunked") + WHOLE], b"400"),
        ([HEAD % (b"", b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked") + WHOLE], b"400"),
        ([(HEAD % (b"", CHUNKED)).replace(b"/1.1", b"/1.0") + WHOLE], b"400"),
    ],
)
def test_a_malformed_request_gets_one_answer_and_logs_no_error(
    served: Service, sent: list[bytes], status: bytes
) -> None:
    (line,) = exchange(served.url, *sent)
    assert line.startswith(b"HTTP/1.1 " + status)
    assert httpx.get(f"{served.url}/livez", timeout=60).status_code == 200


def test_a_client_that_sends_its_whole_body_first_gets_the_problem(served: Service) -> None:
    body = bytes(3_000_000)
    head = b"POST /v2/models HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    with connected(served.url) as connection:
        connection.sendall(head + body)
        answer = read_all(connection)
    problem = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert problem["type"] == "/problems/invalid-http"
    assert problem["error"] == problem["detail"] == "a request must have one Host header; this one has none"


def test_an_unparsable_body_is_logged_with_the_status_of_its_answer(colours: Bundle) -> None:
    with serving(bundle=colours.path) as service:
        exchange(service.url, HEAD % (b"", CHUNKED) + BAD_CHUNK)
        assert service.line("POST /v1/classify 400")
        counted = httpx.get(f"{service.url}/metrics", timeout=60).text
    assert 'edgewise_requests_total{route="/v1/classify",status="400",variant="ptq"} 1.0' in counted
    assert 'edgewise_rejected_total{reason="client_gone"} 0.0' in counted
