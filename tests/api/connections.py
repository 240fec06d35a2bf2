"""Requests written by hand to a connection, to send what HTTP clients do not."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

CLASSIFY = "/v1/classify"


@contextmanager
def connected(client: httpx.Client) -> Iterator[socket.socket]:
    url = client.base_url
    with socket.create_connection((url.host, url.port), timeout=30) as connection:
        yield connection


def head(*lines: str, route: str = CLASSIFY) -> bytes:
    return "\r\n".join([f"POST {route} HTTP/1.1", "Host: test", *lines, "", ""]).encode()


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next answer; the connection may stay open."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.read()
