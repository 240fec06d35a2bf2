"""An accelerator that never answers, or late."""

import re
import threading
import time
from pathlib import Path

import httpx
import pytest

from service.bundle.folder import Bundle
from tests.api.running import photo
from tests.system.processes import serving, wait_for

CLASSIFY = "/v1/classify?top_k=1"


@pytest.fixture
def hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While there is a file of this name, each inference waits."""
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


def busy(url: str) -> bool:
    """Whether its worker has begun with a photo."""
    text = httpx.get(f"{url}/metrics").text
    (seconds,) = re.findall(r"^edgewise_worker_busy_seconds_total (\S+)$", text, re.MULTILINE)
    return float(seconds) > 0


def test_a_service_whose_worker_hangs_says_so_and_ends(colours: Bundle, library: Path, hangs: Path) -> None:
    settings = {"variant": "fp32", "delegate": library, "delegate_options": "mode=hang-invoke", "workers": 1}
    times = {"hang_seconds": 2, "request_timeout_seconds": 0.5, "drain_seconds": 1}
    with serving(bundle=colours.path, **settings, **times) as service:
        hung: list[httpx.Response] = []
        hangs.touch()
        thread = post(service.url, hung)
        # What no worker begins is answered in time all the same.
        waited: list[httpx.Response] = []
        wait_for(lambda: busy(service.url))
        post(service.url, waited).join()
        assert (waited[0].status_code, waited[0].json()["type"]) == (504, "/problems/deadline-exceeded")
        line = service.line("a worker hangs: stopping")
        assert (line["level"], line["hang_seconds"]) == ("error", 2)
        service.line("not all was answered")
        assert service.wait() == 2
        thread.join()
    assert (hung[0].status_code, hung[0].json()["type"]) == (503, "/problems/draining")


def test_the_other_workers_answer_what_was_accepted(colours: Bundle, library: Path, hangs: Path) -> None:
    settings = {"variant": "fp32", "delegate": library, "delegate_options": "mode=hang-invoke", "workers": 2}
    with serving(bundle=colours.path, **settings, hang_seconds=1, drain_seconds=2) as service:
        hung: list[httpx.Response] = []
        hangs.touch()
        first, second = post(service.url, hung), post(service.url, hung)
        service.line("a worker hangs: stopping")
        hangs.unlink()
        assert service.wait() == 2
        first.join()
        second.join()
    assert [answer.status_code for answer in hung] == [200, 200]


def test_one_that_only_takes_long_goes_on(colours: Bundle, library: Path, hangs: Path) -> None:
    settings = {"variant": "fp32", "delegate": library, "delegate_options": "mode=hang-invoke", "workers": 1}
    with serving(bundle=colours.path, **settings, hang_seconds=3) as service:
        for _ in range(2):
            answers: list[httpx.Response] = []
            hangs.touch()
            thread = post(service.url, answers)
            time.sleep(2)
            hangs.unlink()
            thread.join()
            assert answers[0].status_code == 200
        with service.client() as client:
            assert client.get("/readyz").status_code == 200
