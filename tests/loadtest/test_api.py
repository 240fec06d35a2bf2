import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, TCPServer, ThreadingTCPServer
from threading import Thread
from time import monotonic

import pytest

from loadtest.api import ask, class_count, classes, window_accuracy
from loadtest.errors import LoadTestError

LISTED = b'{"bundle": "b", "active": "a", "variants": []'


@contextmanager
def served(server: TCPServer) -> Iterator[str]:
    """The URL of a server, which goes on in a thread."""
    with server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def refusing(times: int, retry_after: str) -> Iterator[str]:
    """The URL of a server that refuses so many times, and then answers with how often it was asked."""
    asked = 0

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal asked
            asked += 1
            body = b'{"detail": "the queue is full"}' if asked <= times else str(asked).encode()
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(429 if asked <= times else 200)
            self.send_header("Retry-After", retry_after)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as host:
        yield host


def test_a_busy_service_is_asked_again() -> None:
    with refusing(2, "1") as host:
        assert ask(host, "/v1/classify", b"photo", {}) == b"3"


def test_but_never_without_a_pause() -> None:
    start = monotonic()
    with refusing(1, "0") as host:
        assert ask(host, "/v1/classify", b"photo", {}) == b"2"
    assert monotonic() - start >= 1


@pytest.mark.parametrize("retry_after", ["3600", "9" * 5000, "Wed, 21 Oct 2026 07:28:00 GMT", "²"])
def test_but_not_when_it_says_no_time_or_one_that_is_far(retry_after: str) -> None:
    with (
        refusing(1, retry_after) as host,
        pytest.raises(LoadTestError, match=r"answers 429: the queue is full"),
    ):
        ask(host, "/v1/classify", b"photo", {})


@contextmanager
def talking(content: bytes) -> Iterator[str]:
    """The URL of something that says this to whoever connects, whatever is asked."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self.connection.recv(65536)
            self.wfile.write(content)

    with served(ThreadingTCPServer(("127.0.0.1", 0), Handler)) as host:
        yield host


@pytest.mark.parametrize(
    "content",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        *(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            for body in (
                b"<html>It works!</html>",
                b"",
                b"{}",
                b"[]",
                b'{"bundle": "b", "active": "a"}',
                b'{"bundle": "b", "active": "a", "variants": [{}]}',
                LISTED + b"}",
                LISTED + b', "outputs": []}',
                LISTED + b', "outputs": [{"shape": [1, 5]}], "predictions": []}',
                LISTED + b', "outputs": [{"shape": [1, 5]}], "predictions": [1]}',
            )
        ),
    ],
)
def test_what_is_no_service_of_images_is_told(content: bytes) -> None:
    with talking(content) as host, pytest.raises(LoadTestError, match=f"^{host}/v"):
        classes(host, b"photo", {}, {}, class_count(host, {}))


def test_a_report_waits_some_seconds_for_the_metrics_of_a_service_that_hangs() -> None:
    # The system takes the connection, and nobody answers.
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        start = monotonic()
        with pytest.raises(LoadTestError, match=r"/metrics does not answer \(.*timed out\)"):
            window_accuracy(f"http://127.0.0.1:{hanging.getsockname()[1]}")
    assert monotonic() - start < 20
