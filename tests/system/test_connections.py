"""More connections and slower senders than the service accepts, and clients that leave."""

import resource
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from service.api.access import PROBES
from service.bundle.folder import Bundle
from tests.api.running import photo, samples
from tests.system.connections import (
    CLASSIFY,
    IMAGE,
    LIVE,
    MEBIBYTE,
    connect,
    partial_request,
    read_all,
    send_partial_request,
)
from tests.system.processes import Service, serving, wait_for


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
