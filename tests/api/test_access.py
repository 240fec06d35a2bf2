import json
import re
from pathlib import Path

import pytest

from service.api import unread
from service.api.access import MAX_PATH, PROBES
from service.bundle.folder import Bundle
from service.monitoring.logs import JsonFormatter
from service.settings import LogRequests, Settings
from tests.api.connections import connected, head
from tests.api.running import access_log, photo, running, samples
from tests.system.processes import wait_for

ROOT = Path(__file__).parents[2]


def test_each_request_is_logged_as_one_line(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    image = photo("red")
    with access_log(caplog) as records, running(settings) as client:
        answer = client.post("/v1/classify?top_k=1", content=image).json()
        problem = client.post("/v1/classify", content=b"no image").json()
        client.get("/a%0Aline/break")
    lines = [JsonFormatter().format(record) for record in records]
    assert all("\n" not in line for line in lines)
    documented = re.search(r"about (\d+) bytes", (ROOT / "docs" / "logs.md").read_text())
    assert documented
    assert len(lines[0]) == pytest.approx(int(documented[1]), rel=0.1)
    first, second, third = map(json.loads, lines)
    assert first["message"] == "POST /v1/classify 200"
    assert (first["id"], first["variant"], first["problem"]) == (answer["id"], "fp32", None)
    assert (first["path"], first["client"]) == ("/v1/classify", "127.0.0.1")
    assert first["seconds"] > 0
    assert (first["bytes_in"], second["bytes_in"], third["bytes_in"]) == (len(image), 8, None)
    assert (second["problem"], problem["instance"]) == ("unsupported-image", f"urn:uuid:{second['id']}")
    assert (third["message"], third["path"]) == ("GET unmatched 404", "/a\nline/break")


def test_a_log_line_is_short_however_long_the_path_is(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with access_log(caplog) as records, running(settings) as client:
        client.delete("/livez")
        client.get("/" + "%1b" * 20_000)
    lines = [JsonFormatter().format(record) for record in records]
    first, second = map(json.loads, lines)
    assert first["message"] == "DELETE /livez 405"
    assert second["path"] == "/" + "\x1b" * (MAX_PATH - 1)
    assert max(map(len, lines)) < 4096


def test_probes_and_scrapes_are_logged_only_if_they_fail(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with access_log(caplog) as records, running(settings) as client:
        for path in sorted(PROBES):
            assert client.get(path).status_code == client.head(path).status_code == 200
        client.post("/metrics")
        counted = samples(client)['edgewise_requests_total{route="/livez",status="200",variant=""}']
    assert counted == 2
    assert [record.message for record in records] == ["POST /metrics 405"]


def test_an_early_answer_is_logged_before_the_body_has_arrived(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "DISCARD_SECONDS", 60)
    with access_log(caplog) as records, running(settings) as client, connected(client) as connection:
        connection.sendall(head("Content-Length: 50000000") + b"some")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        wait_for(lambda: "POST /v1/classify 413" in caplog.messages)
    (record,) = records
    assert record.message == "POST /v1/classify 413"


@pytest.mark.parametrize(
    ("logged", "expected"),
    [
        (LogRequests.ALL, ["POST /v1/classify 200", "POST /v1/classify 415", "GET unmatched 404"]),
        (LogRequests.FAILED, ["POST /v1/classify 415", "GET unmatched 404"]),
        (LogRequests.NONE, []),
    ],
)
def test_the_settings_say_which_requests_are_logged(
    settings: Settings, caplog: pytest.LogCaptureFixture, logged: LogRequests, expected: list[str]
) -> None:
    settings = settings.model_copy(update={"log_requests": logged})
    with access_log(caplog) as records, running(settings) as client:
        client.post("/v1/classify", content=photo("red"))
        client.post("/v1/classify", content=b"no image")
        client.get("/nope")
        counted = samples(client)
    assert [record.message for record in records] == expected
    assert counted['edgewise_requests_total{route="/v1/classify",status="200",variant="fp32"}'] == 1


def test_a_batch_with_a_failed_image_is_logged_with_the_problem(
    settings: Settings, logarithmic: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"bundle": logarithmic.path, "log_requests": LogRequests.FAILED}
    batches = (
        [photo("red"), photo("red")],
        [photo("red"), b"no image", b""],
        # A failure of the service goes before a mistake of the client.
        [b"no image", photo("red"), photo("black")],
    )
    with access_log(caplog) as records, running(settings.model_copy(update=changes)) as client:
        for images in batches:
            form = [("image", image) for image in images]
            client.post("/v1/classify/batch", files=form).raise_for_status()
    lines = [json.loads(JsonFormatter().format(record)) for record in records]
    assert [(line["message"], line["problem"]) for line in lines] == [
        ("POST /v1/classify/batch 200", "unsupported-image"),
        ("POST /v1/classify/batch 200", "no-answer"),
    ]
