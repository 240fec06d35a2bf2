import json
import logging

import pytest

from service.api.access import MAX_PATH
from service.monitoring.logs import JsonFormatter
from service.settings import Settings
from tests.api.running import photo, running


def test_each_request_is_one_line(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    image = photo("red")
    with caplog.at_level(logging.INFO, "edgewise.access"), running(settings) as client:
        answer = client.post("/v1/classify?top_k=1", content=image).json()
        problem = client.post("/v1/classify", content=b"no image").json()
        client.get("/a%0Aline/break")
    lines = [JsonFormatter().format(record) for record in caplog.records if record.name == "edgewise.access"]
    assert all("\n" not in line for line in lines)
    first, second, third = map(json.loads, lines)
    assert first["message"] == "POST /v1/classify 200"
    assert (first["id"], first["variant"], first["problem"]) == (answer["id"], "fp32", None)
    assert (first["path"], first["client"]) == ("/v1/classify", "127.0.0.1")
    assert first["seconds"] > 0
    assert (second["problem"], problem["instance"]) == ("unsupported-image", f"urn:uuid:{second['id']}")
    assert (third["message"], third["path"]) == ("GET unmatched 404", "/a\nline/break")


def test_a_line_is_short_whatever_is_asked_for(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "edgewise.access"), running(settings) as client:
        client.delete("/livez")
        client.get("/" + "%1b" * 20_000)
    lines = [JsonFormatter().format(record) for record in caplog.records if record.name == "edgewise.access"]
    first, second = map(json.loads, lines)
    assert first["message"] == "DELETE /livez 405"
    assert second["path"] == "/" + "\x1b" * (MAX_PATH - 1)
    assert max(map(len, lines)) < 4096
