"""Connections to a service, and what is sent on them, such as a request that never ends."""

import socket
from contextlib import ExitStack

import httpx

from tests.api.running import photo
from tests.system.processes import Service

CLASSIFY = "/v1/classify"
IMAGE = photo("red")
# Settings for a service that waits very long for the rest of a body, also while it stops.
PATIENT = {"min_body_rate": 1e-6, "read_timeout_seconds": 600, "drain_seconds": 600}
MEBIBYTE = 2**20
LIVE = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"
CHUNKED = b"POST /v1/classify HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


def partial_request(service: Service, stack: ExitStack) -> socket.socket:
    """Open a connection with a partial request: the service waits for the rest of the body."""
    connection = connect(service, stack)
    send_partial_request(connection)
    return connection


def send_partial_request(connection: socket.socket) -> None:
    """Send a request's head and the first bytes of its body: the service waits for the rest."""
    head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(IMAGE)}\r\n"
    connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
    # This interim answer means that the service has accepted the request.
    assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(IMAGE[:10])


def read_all(connection: socket.socket) -> bytes:
    """Everything received until the server closes the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def connected(url: str) -> socket.socket:
    """Open a connection to the server of the URL, without TLS."""
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port), timeout=60)


def connect(service: Service, stack: ExitStack) -> socket.socket:
    return stack.enter_context(connected(service.url))


def exchange(url: str, *sent: bytes) -> list[bytes]:
    """Send each part after the answer to the previous one; return the status lines of all answers."""
    received = b""
    with connected(url) as connection:
        for part in sent[:-1]:
            connection.sendall(part)
            received += connection.recv(65536)
        connection.sendall(sent[-1])
        received += read_all(connection)
    return [line for line in received.splitlines() if line.startswith(b"HTTP/")]
