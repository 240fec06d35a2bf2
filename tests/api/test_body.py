"""Request bodies that are too large, too slow, cut off, or refused unread."""

import gzip
import http.client
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.api import unread
from service.settings import Settings
from tests.api.connections import CLASSIFY, answer_of, connected, head
from tests.api.running import blocked_worker, photo, running, samples
from tests.system.connections import read_all
from tests.system.processes import wait_for


def chunks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield bytes(50_000)


@pytest.mark.parametrize("codings", [["gzip"], ["identity", "GZIP"]])
def test_a_body_with_a_content_coding_is_refused(
    settings: Settings, tmp_path: Path, codings: list[str]
) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-the-tests")
    routes = [
        ("POST", CLASSIFY, "image/png"),
        ("POST", CLASSIFY, "multipart/form-data; boundary=x"),
        ("POST", "/v1/classify/batch", "multipart/form-data; boundary=x"),
        ("POST", "/v2/models/colours/infer", "application/json"),
        ("POST", "/v1/feedback", "application/json"),
        ("PUT", "/v1/variants/active", "application/json"),
    ]
    with running(settings.model_copy(update={"admin_token_file": token})) as client:
        for method, path, type_ in routes:
            headers = [("Content-Type", type_), ("Authorization", "Bearer a-token-of-the-tests")]
            headers += [("Content-Encoding", coding) for coding in codings]
            response = client.request(method, path, content=gzip.compress(photo("red")), headers=headers)
            assert response.status_code == 415
            assert response.headers["Accept-Encoding"] == "identity"
            assert response.json()["type"] == "/problems/encoded-body"
            assert f"Content-Encoding '{','.join(codings)}'" in response.json()["detail"]


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_the_content_coding_identity_is_accepted(client: httpx.Client, coding: str) -> None:
    response = client.post(CLASSIFY, content=photo("red"), headers={"Content-Encoding": coding})
    assert response.status_code == 200


@pytest.mark.parametrize(("megabytes", "announced"), [(1, False), (50, False), (50, True)])
def test_a_client_that_sends_everything_before_it_reads_gets_the_413(
    client: httpx.Client, megabytes: int, announced: bool
) -> None:
    url = client.base_url
    connection = http.client.HTTPConnection(url.host, url.port, timeout=30)
    body = bytes(megabytes * 1_000_000) if announced else chunks(megabytes * 20)
    connection.request("POST", CLASSIFY, body, encode_chunked=not announced, headers=_chunked(announced))
    response = connection.getresponse()
    assert response.status == 413
    assert response.headers["connection"] == "close"
    assert b"/problems/body-too-large" in response.read()
    connection.close()


def test_a_connection_stays_open_after_a_short_body_is_refused(client: httpx.Client) -> None:
    url = client.base_url
    connection = http.client.HTTPConnection(url.host, url.port, timeout=30)
    for _ in range(3):
        connection.request("POST", CLASSIFY, bytes(1_000_000))
        refused = connection.getresponse()
        assert (refused.status, refused.headers["connection"]) == (413, None)
        assert b"/problems/body-too-large" in refused.read()
        opened = connection.sock
        connection.request("POST", CLASSIFY, photo("red"))
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
        assert connection.sock is opened
    connection.close()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_short_refused_body_is_read_before_the_connection_closes(
    client: httpx.Client, version: str
) -> None:
    begin = head("Content-Length: 1000000", "Connection: close").replace(
        b"HTTP/1.1", f"HTTP/{version}".encode()
    )
    with connected(client) as connection:
        connection.sendall(begin)
        for _ in range(20):
            time.sleep(0.01)
            connection.sendall(bytes(50_000))
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def _chunked(announced: bool) -> dict[str, str]:
    return {} if announced else {"Transfer-Encoding": "chunked"}


@pytest.mark.parametrize(("route", "status"), [("/nope", 404), ("/livez", 405), (f"{CLASSIFY}?top_k=0", 422)])
def test_other_early_answers_reach_the_client_too(client: httpx.Client, route: str, status: int) -> None:
    url = client.base_url
    connection = http.client.HTTPConnection(url.host, url.port, timeout=30)
    connection.request("POST", route, bytes(20_000_000))
    assert connection.getresponse().status == status
    connection.close()


def test_the_answer_does_not_wait_for_the_rest_of_the_body(client: httpx.Client) -> None:
    with connected(client) as connection:
        connection.sendall(head("Content-Length: 50000000"))
        assert answer_of(connection)[0] == 413


def test_only_so_much_of_a_refused_body_is_read_and_discarded(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "DISCARD_BYTES", 1_000_000)
    with connected(client) as connection:
        connection.sendall(head("Content-Length: 50000000"))
        assert answer_of(connection)[0] == 413
        with pytest.raises(OSError, match=r"[Rr]eset|[Bb]roken pipe"):
            connection.sendall(bytes(50_000_000))


def test_a_client_that_stalls_is_disconnected(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unread, "DISCARD_SECONDS", 0.2)
    with connected(client) as connection:
        connection.sendall(head("Content-Length: 50000000") + b"some")
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def test_no_100_continue_is_sent_for_a_refused_body(client: httpx.Client) -> None:
    with connected(client) as connection:
        connection.sendall(head("Content-Length: 50000000", "Expect: 100-continue"))
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_no_100_continue_is_sent_to_an_http_1_0_client(client: httpx.Client) -> None:
    image = photo("red")
    for length, status in ((len(image), 200), (5_000_000, 413)):
        begin = head(f"Content-Length: {length}", "Expect: 100-continue")
        with connected(client) as connection:
            connection.sendall(begin.replace(b"HTTP/1.1", b"HTTP/1.0") + image.ljust(length))
            answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert answer.count(b"HTTP/1.1") == 1


def test_100_continue_is_sent_when_the_body_is_read(client: httpx.Client) -> None:
    image = photo("red")
    with connected(client) as connection:
        connection.sendall(head(f"Content-Length: {len(image)}", "Expect: 100-continue", "Connection: close"))
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(image)
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("route", [CLASSIFY, f"{CLASSIFY}/batch", "/v2/models/colours/infer"])
def test_no_100_continue_is_sent_if_the_queue_is_full(settings: Settings, route: str) -> None:
    image = photo("red")
    with blocked_worker(settings) as (client, pool), connected(client) as first, connected(client) as second:
        first.sendall(head(f"Content-Length: {len(image)}") + image)
        wait_for(lambda: pool.waiting == 1)
        second.sendall(head("Content-Length: 1000", "Expect: 100-continue", route=route))
        assert read_all(second).startswith(b"HTTP/1.1 429 ")


def test_a_connection_serves_one_request_after_another(client: httpx.Client) -> None:
    url = client.base_url
    connection = http.client.HTTPConnection(url.host, url.port, timeout=30)
    connection.connect()
    first = connection.sock
    for body, status in [(photo("red"), 200), (b"no image", 415), (b"", 400), (photo("blue"), 200)]:
        connection.request("POST", CLASSIFY, body)
        response = connection.getresponse()
        response.read()
        assert response.status == status
        assert connection.sock is first
    connection.close()


def test_a_slow_body_is_cut_off(settings: Settings) -> None:
    impatient = settings.model_copy(update={"read_timeout_seconds": 1})
    with running(impatient) as client, connected(client) as connection:
        connection.sendall(head("Content-Length: 1000") + bytes(7))
        status, body = answer_of(connection)
        assert status == 408
        assert b"7 bytes of the body arrived in " in body


@pytest.mark.parametrize(
    ("path", "route", "type_"),
    [
        (CLASSIFY, CLASSIFY, "image/png"),
        ("/v1/classify/batch", "/v1/classify/batch", "multipart/form-data; boundary=x"),
        ("/v2/models/colours/infer", "/v2/models/{model}/infer", "application/json"),
        ("/v1/feedback", "/v1/feedback", "application/json"),
    ],
)
def test_a_client_that_goes_away_is_counted(settings: Settings, path: str, route: str, type_: str) -> None:
    with running(settings) as client:
        with connected(client) as connection:
            connection.sendall(
                head(f"Content-Type: {type_}", "Content-Length: 1000", route=path) + b"--x\r\nCon"
            )
        gone = re.compile(rf'edgewise_requests_total{{route="{re.escape(route)}",status="499",variant=".*"}}')

        def counted() -> float:
            return sum(value for name, value in samples(client).items() if gone.fullmatch(name))

        wait_for(lambda: counted() == 1)
        assert samples(client)['edgewise_rejected_total{reason="client_gone"}'] == 1


def test_nothing_is_written_to_disk(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a read-only root file system: a parser that spools a form of this size to a file fails here.
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    image = photo("green", "BMP", (1000, 1000))
    with running(settings.model_copy(update={"max_body_bytes": 4_000_000})) as client:
        response = client.post(CLASSIFY, files={"image": image})
    assert response.json()["predictions"][0]["label"] == "green"
