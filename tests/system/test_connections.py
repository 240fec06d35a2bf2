"""More connections, longer heads and slower senders than the service accepts."""

import json
import re
import resource
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
import pytest

from service.api.access import PROBES
from service.bundle.folder import Bundle
from service.server.protocol import MAX_PIPELINED
from tests.api.running import photo, samples
from tests.system.connections import PATIENT, partial_request, read_all, send_partial_request
from tests.system.processes import Service, serving, wait_for

CLASSIFY = "/v1/classify"
IMAGE = photo("red")
MEBIBYTE = 2**20
LIVE = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"
CHUNKED = b"POST /v1/classify HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"

CLOSING = CHUNKED.replace(b"Host", b"Connection: close\r\nHost")


def connect(service: Service, stack: ExitStack) -> socket.socket:
    url = httpx.URL(service.url)
    return stack.enter_context(socket.create_connection((url.host, url.port), timeout=30))


def answers_livez(connection: socket.socket) -> bool:
    connection.sendall(LIVE)
    answer = b""
    while not answer.endswith(b"}"):
        more = connection.recv(65536)
        if not more:
            return False
        answer += more
    return answer.startswith(b"HTTP/1.1 200 ")


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(65536) == b""
    except ConnectionError:
        return True


@contextmanager
def file_limit(descriptors: int) -> Iterator[None]:
    """Limit the open files of processes started in this context."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def small(colours: Bundle) -> Iterator[Service]:
    with serving(bundle=colours.path, **PATIENT, max_connections=8, workers=1) as service:
        yield service


def test_the_longest_idle_connection_is_closed_for_a_new_one(small: Service) -> None:
    with ExitStack() as stack:
        connections = [connect(small, stack) for _ in range(8)]
        for connection in [*connections, connections[0]]:
            assert answers_livez(connection)
            # The service's clock counts milliseconds.
            time.sleep(0.01)
        send_partial_request(connections[1])
        assert answers_livez(connect(small, stack))
        assert is_closed(connections[2])
        assert answers_livez(connections[0])
        assert answers_livez(connections[3])


def test_a_connection_beyond_the_limit_gets_a_503_if_all_are_busy(small: Service) -> None:
    reason = 'edgewise_rejected_total{reason="too_many_connections"}'
    with small.client() as client:
        before = samples(client)[reason]
    with ExitStack() as stack:
        busy = [partial_request(small, stack) for _ in range(8)]
        # A client that sends its whole body before it reads gets the answer, not a reset.
        response = httpx.post(small.url + CLASSIFY, content=bytes(3 * MEBIBYTE), timeout=60)
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["retry-after"] == "1"
        assert response.json()["type"] == "/problems/too-many-connections"
        assert "error" not in response.json()
        problem = httpx.get(f"{small.url}/v2/models/colours").json()
        assert problem["error"] == problem["detail"]
        for connection in busy:
            connection.sendall(IMAGE[10:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    with small.client() as client:
        assert samples(client)[reason] == before + 2


def test_the_answer_to_a_too_large_head_has_the_format_of_its_path(small: Service) -> None:
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(b"GET /v2/models HTTP/1.1\r\nHost: test\r\nCookie: " + b"x" * 70_000 + b"\r\n\r\n")
        problem = json.loads(read_all(connection).partition(b"\r\n\r\n")[2])
    assert problem["type"] == "/problems/head-too-large"
    assert problem["error"] == problem["detail"]


def test_probes_are_answered_if_all_connections_are_busy(small: Service) -> None:
    with ExitStack() as stack:
        busy = [partial_request(small, stack) for _ in range(8)]
        silent = [connect(small, stack) for _ in range(20)]
        for path in sorted(PROBES):
            assert httpx.get(small.url + path, timeout=60).status_code == 200
        assert httpx.get(f"{small.url}/v1/variants", timeout=60).status_code == 503
        # With an absolute URL as its target, as in a request to a proxy.
        probe = connect(small, stack)
        probe.sendall(b"GET http://test/livez?x HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        assert read_all(probe).startswith(b"HTTP/1.1 200 ")
        # Only 8 connections are kept for probes, so the oldest silent one had to be closed.
        assert is_closed(silent[0])
        busy[0].sendall(IMAGE[10:])
        assert busy[0].recv(65536).startswith(b"HTTP/1.1 200 ")
        busy[0].close()
        wait_for(lambda: httpx.get(f"{small.url}/v1/variants", timeout=60).status_code == 200)


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


def test_a_silent_connection_is_closed(small: Service) -> None:
    with ExitStack() as stack:
        assert is_closed(connect(small, stack))


def test_file_descriptors_do_not_run_out(colours: Bundle) -> None:
    with file_limit(128):
        context = serving(bundle=colours.path)
        service = context.__enter__()
    with ExitStack() as stack:
        stack.push(context)
        for _ in range(3):
            idle = [connect(service, stack) for _ in range(300)]
            assert httpx.post(service.url + CLASSIFY, content=IMAGE, timeout=60).status_code == 200
            with service.client() as client:
                for _ in range(5):
                    assert client.post(CLASSIFY, content=IMAGE).status_code == 200
        assert sum(map(answers_livez, idle[-20:])) == 20


def test_slow_senders_do_not_block_a_fast_one(colours: Bundle) -> None:
    with serving(bundle=colours.path) as service, ExitStack() as stack:
        slow = [partial_request(service, stack) for _ in range(200)]
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(1):
                for connection in slow:
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        continue

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with service.client() as client:
                ends = time.monotonic() + 8
                while time.monotonic() < ends:
                    assert client.post(CLASSIFY, content=IMAGE).status_code == 200
        finally:
            stop.set()
            thread.join()
        # The slow senders were cut off with an answer.
        for connection in slow:
            assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")


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


def test_reset_connections_leak_no_memory(small: Service) -> None:
    head = b"GET /livez HTTP/1.1\r\nHost: test\r\nCookie: " + b"x" * 60_000 + b"\r\n\r\n"

    def connect_and_reset(times: int) -> None:
        for _ in range(times):
            with ExitStack() as stack:
                connection = connect(small, stack)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(head)
                assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")

    connect_and_reset(300)
    before = small.memory("VmRSS")
    connect_and_reset(1000)
    assert small.memory("VmRSS") - before < 16 * MEBIBYTE


def test_the_body_of_a_refused_request_is_not_kept(colours: Bundle) -> None:
    body = bytes(500_000)
    head = b"POST /v1/classify?top_k=0 HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body)
    with serving(bundle=colours.path) as service, ExitStack() as stack:
        connections = [connect(service, stack) for _ in range(300)]
        assert answers_livez(connections[0])
        before = service.memory("VmRSS")
        for connection in connections:
            connection.sendall(head + body)
            assert connection.recv(65536).startswith(b"HTTP/1.1 422 ")
        assert service.memory("VmRSS") - before < 16 * MEBIBYTE


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


def test_a_probe_is_answered_but_not_a_request_pipelined_behind_it(small: Service) -> None:
    with ExitStack() as stack:
        for _ in range(8):
            partial_request(small, stack)
        connection = connect(small, stack)
        connection.sendall(LIVE + LIVE.replace(b"/livez", b"/v1/variants"))
        answers = read_all(connection)
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert answers.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("half", [False, True], ids=["closed", "half-closed"])
def test_nothing_is_computed_for_clients_that_left(default_bundle: Bundle, half: bool) -> None:
    image = photo("red", "JPEG", (3000, 2000))
    request = b"POST /v1/classify HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(image) + image
    settings = {"workers": 1, "queue_size": 60, "request_timeout_seconds": 600}
    with (
        serving(bundle=default_bundle.path, variant="qat", **settings) as service,
        service.client() as client,
        ExitStack() as stack,
    ):
        client.get("/livez")
        connections = [connect(service, stack) for _ in range(40)]
        for connection in connections:
            connection.sendall(request)
        wait_for(lambda: samples(client)["edgewise_queue_depth"] >= 20)
        # Stopped, so that it computes nothing while the clients leave.
        service.signal(signal.SIGSTOP)
        for connection in connections:
            if half:
                connection.shutdown(socket.SHUT_WR)
            else:
                connection.close()
        service.signal(signal.SIGCONT)
        wait_for(lambda: samples(client)["edgewise_queue_depth"] == 0)
        assert client.post(CLASSIFY, content=IMAGE).status_code == 200
        metrics = samples(client)
    gone = metrics['edgewise_rejected_total{reason="client_gone"}']
    computed = metrics['edgewise_stage_seconds_count{stage="total",variant="qat"}']
    assert gone >= 20
    assert computed + gone == 41
