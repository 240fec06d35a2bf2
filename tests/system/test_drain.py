import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from service.bundle.folder import Bundle
from tests.system.connections import CLASSIFY, IMAGE, PATIENT, connected, partial_request, read_all
from tests.system.processes import Service, serving


@pytest.fixture
def patient(colours: Bundle) -> Iterator[Service]:
    with serving(bundle=colours.path, **PATIENT) as service:
        yield service


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_service_ends_at_once_with_status_0(patient: Service, number: signal.Signals) -> None:
    patient.signal(number)
    assert patient.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_accepted_requests_are_answered_and_new_ones_refused(
    patient: Service, number: signal.Signals
) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(patient.client())
        connections = [partial_request(patient, stack) for _ in range(5)]
        patient.signal(number)
        assert patient.line("stopping")["requests"] == 5
        for response in (client.get("/readyz"), client.post(CLASSIFY, content=IMAGE)):
            assert response.status_code == 503
            assert response.json()["type"] == "/problems/draining"
            assert 300 < int(response.headers["retry-after"]) <= 600
        assert client.get("/livez").status_code == 200
        for connection in connections:
            connection.sendall(IMAGE[10:])
        for connection in connections:
            assert read_all(connection).startswith(b"HTTP/1.1 200 ")
    assert patient.wait() == 0


def test_a_request_unfinished_at_the_deadline_gets_a_503(colours: Bundle) -> None:
    with serving(bundle=colours.path, drain_seconds=0.5) as service, ExitStack() as stack:
        connection = partial_request(service, stack)
        service.signal(signal.SIGTERM)
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"/problems/draining" in answer
        assert service.wait() == 0
        assert service.line("not all requests were answered")["requests"] == 1
        assert service.line(f"POST {CLASSIFY} 503")["problem"] == "draining"


def test_under_load_every_accepted_request_is_answered(patient: Service) -> None:
    def ask_until_refused() -> list[int]:
        statuses = []
        with patient.client() as client:
            while True:
                try:
                    response = client.post(CLASSIFY, content=IMAGE)
                except httpx.TransportError:
                    return statuses
                statuses.append(response.status_code)
                if len(statuses) == 30:
                    enough.set()

    enough = threading.Event()
    with ThreadPoolExecutor(6) as threads:
        futures = [threads.submit(ask_until_refused) for _ in range(6)]
        assert enough.wait(60)
        patient.signal(signal.SIGTERM)
        answers = [status for future in futures for status in future.result()]
    assert patient.wait() == 0
    logged = [line["message"] for line in patient.log if line["logger"] == "edgewise.access"]
    assert set(answers) <= {200, 503}
    assert answers.count(200) == logged.count(f"POST {CLASSIFY} 200") >= 30
    assert not [line for line in patient.log if line["level"] == "error"]


def test_a_refused_body_causes_no_traceback_at_the_stop(colours: Bundle) -> None:
    with (
        serving(bundle=colours.path, drain_seconds=0, max_body_bytes=1000) as service,
        connected(service.url) as connection,
    ):
        head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: test\r\nContent-Length: {10**8}\r\n\r\n"
        connection.sendall(head.encode() + bytes(10))
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
    assert not [line for line in service.log if "traceback" in line]
