"""An accelerator that answers late or never."""

import re
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from service.bundle.folder import Bundle
from tests.api.running import photo
from tests.system.connections import IMAGE, PATIENT, partial_request, read_all
from tests.system.processes import serving, wait_for

CLASSIFY = "/v1/classify?top_k=1"


@pytest.fixture
def hang_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path: while a file exists there, every inference waits."""
    file = tmp_path / "hangs"
    monkeypatch.setenv("HANG_WHILE", str(file))
    return file


def post(url: str, answers: list[httpx.Response]) -> threading.Thread:
    """POST a photo in a thread."""
    thread = threading.Thread(
        target=lambda: answers.append(httpx.post(url + CLASSIFY, content=photo("red"), timeout=60))
    )
    thread.start()
    return thread


def has_begun(url: str) -> bool:
    """Whether the service's only worker has begun to process a photo."""
    text = httpx.get(f"{url}/metrics", timeout=60).text
    (seconds,) = re.findall(r"^edgewise_worker_busy_seconds_total (\S+)$", text, re.MULTILINE)
    return float(seconds) > 0


def test_a_service_whose_worker_hangs_logs_it_and_exits(
    colours: Bundle, library: Path, hang_file: Path
) -> None:
    settings = {"variant": "fp32", "delegate": library, "delegate_options": "mode=hang-invoke", "workers": 1}
    with serving(bundle=colours.path, **settings, hang_seconds=2, drain_seconds=1) as service:
        hung: list[httpx.Response] = []
        hang_file.touch()
        thread = post(service.url, hung)
        line = service.line("a worker hangs: stopping")
        assert (line["level"], line["hang_seconds"]) == ("error", 2)
        service.line("not all requests were answered")
        assert service.wait() == 2
        thread.join()
    assert (hung[0].status_code, hung[0].json()["type"]) == (503, "/problems/draining")


def test_accepted_requests_are_answered_after_a_worker_hung(
    colours: Bundle, library: Path, hang_file: Path
) -> None:
    settings = {"variant": "fp32", "delegate": library, "delegate_options": "mode=hang-invoke", "workers": 2}
    with serving(bundle=colours.path, **settings, **PATIENT, hang_seconds=1) as service, ExitStack() as stack:
        connections = [partial_request(service, stack) for _ in range(2)]
        hang_file.touch()
        for connection in connections:
            connection.sendall(IMAGE[10:])
        service.line("a worker hangs: stopping")
        hang_file.unlink()
        for connection in connections:
            assert read_all(connection).startswith(b"HTTP/1.1 200 ")
        assert service.wait() == 2


def test_a_slow_worker_does_not_stop_the_service(colours: Bundle, library: Path, hang_file: Path) -> None:
    settings = {"variant": "fp32", "delegate": library, "delegate_options": "mode=hang-invoke", "workers": 1}
    with serving(bundle=colours.path, **settings, hang_seconds=2) as service:
        # Together they take longer than `hang_seconds`, but none of them does.
        for _ in range(5):
            answers: list[httpx.Response] = []
            hang_file.touch()
            thread = post(service.url, answers)
            time.sleep(0.5)
            hang_file.unlink()
            thread.join()
            assert answers[0].status_code == 200
        with service.client() as client:
            assert client.get("/readyz").status_code == 200


def test_a_request_behind_a_hanging_worker_times_out(colours: Bundle, library: Path, hang_file: Path) -> None:
    settings = {"variant": "fp32", "delegate": library, "delegate_options": "mode=hang-invoke", "workers": 1}
    with serving(bundle=colours.path, **settings, request_timeout_seconds=0.5) as service:
        hung: list[httpx.Response] = []
        waited: list[httpx.Response] = []
        hang_file.touch()
        thread = post(service.url, hung)
        wait_for(lambda: has_begun(service.url))
        post(service.url, waited).join()
        assert (waited[0].status_code, waited[0].json()["type"]) == (504, "/problems/deadline-exceeded")
        hang_file.unlink()
        thread.join()
    assert hung[0].status_code == 200
