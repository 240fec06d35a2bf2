"""More connections, longer heads and slower senders than a service can do with."""

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
from tests.system.processes import Service, serving, wait_for
from tests.system.test_drain import PATIENT, begin, begun, received

CLASSIFY = "/v1/classify"
IMAGE = photo("red")
MEBIBYTE = 2**20
LIVE = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"
CHUNKED = b"POST /v1/classify HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"

CLOSING = CHUNKED.replace(b"Host", b"Connection: close\r\nHost")


def connect(service: Service, stack: ExitStack) -> socket.socket:
    url = httpx.URL(service.url)
    return stack.enter_context(socket.create_connection((url.host, url.port), timeout=30))


def answered(connection: socket.socket) -> bool:
    connection.sendall(LIVE)
    answer = b""
    while not answer.endswith(b"}"):
        more = connection.recv(65536)
        if not more:
            return False
        answer += more
    return answer.startswith(b"HTTP/1.1 200 ")


def closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(65536) == b""
    except ConnectionError:
        return True


@contextmanager
def at_most(descriptors: int) -> Iterator[None]:
    """What is started meanwhile may have so many open."""
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


def test_the_connection_that_is_idle_longest_gives_way(small: Service) -> None:
    with ExitStack() as stack:
        connections = [connect(small, stack) for _ in range(8)]
        for connection in [*connections, connections[0]]:
            assert answered(connection)
            # The clock has milliseconds.
            time.sleep(0.01)
        begin(connections[1])
        assert answered(connect(small, stack))
        assert closed(connections[2])
        assert answered(connections[0])
        assert answered(connections[3])


def test_where_all_are_busy_one_more_is_told_so(small: Service) -> None:
    reason = 'edgewise_rejected_total{reason="too_many_connections"}'
    with small.client() as client:
        before = samples(client)[reason]
    with ExitStack() as stack:
        begun_ones = [begun(small, stack) for _ in range(8)]
        # A client that sends all before it reads sees the answer, and not a reset.
        response = httpx.post(small.url + CLASSIFY, content=bytes(3 * MEBIBYTE), timeout=60)
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["retry-after"] == "1"
        assert response.json()["type"] == "/problems/too-many-connections"
        assert "error" not in response.json()
        problem = httpx.get(f"{small.url}/v2/models/colours").json()
        assert problem["error"] == problem["detail"]
        for connection in begun_ones:
            connection.sendall(IMAGE[10:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    with small.client() as client:
        assert samples(client)[reason] == before + 2


def test_a_head_that_is_too_large_is_told_as_its_path_has_it(small: Service) -> None:
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(b"GET /v2/models HTTP/1.1\r\nHost: test\r\nCookie: " + b"x" * 70_000 + b"\r\n\r\n")
        problem = json.loads(received(connection).partition(b"\r\n\r\n")[2])
    assert problem["type"] == "/problems/head-too-large"
    assert problem["error"] == problem["detail"]


def test_where_all_are_busy_probes_are_answered(small: Service) -> None:
    with ExitStack() as stack:
        begun_ones = [begun(small, stack) for _ in range(8)]
        silent = [connect(small, stack) for _ in range(20)]
        for path in sorted(PROBES):
            assert httpx.get(small.url + path, timeout=60).status_code == 200
        assert httpx.get(f"{small.url}/v1/variants", timeout=60).status_code == 503
        # With a whole URL for its target, as proxies are asked.
        probe = connect(small, stack)
        probe.sendall(b"GET http://test/livez?x HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        assert received(probe).startswith(b"HTTP/1.1 200 ")
        # As many as are kept for probes, less those that came before.
        assert closed(silent[0])
        begun_ones[0].sendall(IMAGE[10:])
        assert begun_ones[0].recv(65536).startswith(b"HTTP/1.1 200 ")
        begun_ones[0].close()
        wait_for(lambda: httpx.get(f"{small.url}/v1/variants", timeout=60).status_code == 200)


@pytest.mark.parametrize(
    ("begins", "goes_on"),
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
def test_a_head_or_framing_without_end_is_told_so(small: Service, begins: bytes, goes_on: bytes) -> None:
    before = small.memory("VmRSS")
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(begins)
        # Who is late sends to one that was closed.
        with suppress(ConnectionError):
            for _ in range(5_000):
                if select.select([connection], [], [], 0)[0]:
                    break
                connection.sendall(goes_on)
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"/problems/head-too-large" in answer
    assert small.memory("VmRSS") - before < 16 * MEBIBYTE


def test_a_body_in_chunks_of_one_byte_is_taken(small: Service) -> None:
    with ExitStack() as stack:
        connection = connect(small, stack)
        image = photo("red", "BMP", (200, 100))
        body = b"".join(b"1\r\n%c\r\n" % byte for byte in image)
        assert len(body) > 300_000
        connection.sendall(CLOSING + body + b"0\r\n\r\n")
        assert received(connection).startswith(b"HTTP/1.1 200 ")


def test_a_connection_on_which_nothing_comes_is_closed(small: Service) -> None:
    with ExitStack() as stack:
        assert closed(connect(small, stack))


def test_descriptors_do_not_run_out(colours: Bundle) -> None:
    with at_most(128):
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
        assert sum(map(answered, idle[-20:])) == 20


def test_slow_senders_do_not_keep_a_fast_one_out(colours: Bundle) -> None:
    with serving(bundle=colours.path) as service, ExitStack() as stack:
        slow = [begun(service, stack) for _ in range(200)]
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
        # They were cut off, and told so.
        for connection in slow:
            assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_pipelined_requests_are_answered_in_their_order(small: Service) -> None:
    classify = b"POST /v1/classify HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(IMAGE) + IMAGE
    last = b"GET /nope HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(classify + LIVE + classify + LIVE * 10 + last)
        answers = received(connection)
    statuses = re.findall(rb"HTTP/1\.1 (\d+) ", answers)
    assert statuses == [b"200"] * 13 + [b"404"]
    order = [answers.index(b'"predictions"'), answers.index(b'"live"'), answers.rindex(b'"predictions"')]
    assert order == sorted(order)


@pytest.mark.parametrize("offer", [b"h2c", b"websocket", b"TLS/1.3, h2c"])
@pytest.mark.parametrize("pause", [0, 0.2])
def test_an_offer_of_another_protocol_is_declined(small: Service, offer: bytes, pause: float) -> None:
    # As Java's client has it in the first request of a connection.
    head = (
        b"POST /v1/classify?top_k=1 HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: %s\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\nContent-Length: %d\r\n\r\n" % (offer, len(IMAGE))
    )
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(head)
        time.sleep(pause)
        # Others behind it, which are no part of what it offers.
        last = LIVE.replace(b"Host", b"Connection: Upgrade, close\r\nUpgrade: h2c\r\nHost")
        connection.sendall(IMAGE + head + IMAGE + last)
        answers = received(connection)
    assert answers.count(b"HTTP/1.1 ") == answers.count(b"HTTP/1.1 200 OK") == 3
    assert answers.count(b'"predictions"') == 2


def test_requests_without_end_on_one_connection_take_no_memory(small: Service) -> None:
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
def test_what_was_accepted_is_answered_whatever_comes_behind_it(small: Service, requests: int) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(IMAGE)
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall((head + IMAGE) * requests + b"\x00 no HTTP\r\n\r\n")
        answers = received(connection)
    assert answers.count(b"HTTP/1.1 ") == answers.count(b"HTTP/1.1 200 OK") == requests
    assert answers.count(b'"predictions"') == requests


def test_of_too_many_that_wait_the_first_ones_are_answered(small: Service) -> None:
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(LIVE * (MAX_PIPELINED + 10))
        answers = received(connection)
    assert answers.count(b"HTTP/1.1 ") == answers.count(b"HTTP/1.1 200 OK") == MAX_PIPELINED + 1


def test_connections_that_are_reset_leave_nothing_behind(small: Service) -> None:
    head = b"GET /livez HTTP/1.1\r\nHost: test\r\nCookie: " + b"x" * 60_000 + b"\r\n\r\n"

    def come_and_go(times: int) -> None:
        for _ in range(times):
            with ExitStack() as stack:
                connection = connect(small, stack)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(head)
                assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")

    come_and_go(300)
    before = small.memory("VmRSS")
    come_and_go(1000)
    assert small.memory("VmRSS") - before < 16 * MEBIBYTE


def test_what_came_of_a_body_that_was_refused_is_not_kept(colours: Bundle) -> None:
    body = bytes(500_000)
    head = b"POST /v1/classify?top_k=0 HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body)
    with serving(bundle=colours.path) as service, ExitStack() as stack:
        connections = [connect(service, stack) for _ in range(300)]
        assert answered(connections[0])
        before = service.memory("VmRSS")
        for connection in connections:
            connection.sendall(head + body)
            assert connection.recv(65536).startswith(b"HTTP/1.1 422 ")
        assert service.memory("VmRSS") - before < 16 * MEBIBYTE


def test_what_comes_behind_a_body_is_no_header(small: Service) -> None:
    body = b"%x\r\n%s\r\n0\r\n" % (len(IMAGE), IMAGE)
    trailers = b"X-Request-ID: smuggled\r\nContent-Type: multipart/form-data\r\n\r\n"
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(CLOSING + body + trailers)
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"smuggled" not in answer


@pytest.mark.parametrize(("size", "status"), [(65_000, 200), (66_000, 431), (200_000, 431), (1_000_000, 431)])
def test_a_head_that_comes_at_once_is_held_to_its_size(small: Service, size: int, status: int) -> None:
    with ExitStack() as stack:
        connection = connect(small, stack)
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\nCookie: " + b"x" * size + b"\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 %d " % status)


def test_a_probe_has_its_answer_whatever_is_asked_behind_it(small: Service) -> None:
    with ExitStack() as stack:
        for _ in range(8):
            begun(small, stack)
        connection = connect(small, stack)
        connection.sendall(LIVE + LIVE.replace(b"/livez", b"/v1/variants"))
        answers = received(connection)
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
        # While they leave it computes nothing.
        service.signal(signal.SIGSTOP)
        for connection in connections:
            if half:
                connection.shutdown(socket.SHUT_WR)
            else:
                connection.close()
        service.signal(signal.SIGCONT)
        wait_for(lambda: samples(client)["edgewise_queue_depth"] == 0)
        assert client.post(CLASSIFY, content=IMAGE).status_code == 200
        told = samples(client)
    gone = told['edgewise_rejected_total{reason="client_gone"}']
    computed = told['edgewise_stage_seconds_count{stage="total",variant="qat"}']
    assert gone >= 20
    assert computed + gone == 41
