import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.api.keys import needs_key
from service.monitoring.logs import JsonFormatter
from service.settings import Settings
from tests.api.connections import answer_of, connected, head
from tests.api.running import photo, running, samples

CLASSIFY = "/v1/classify"
KEY = "a-key-of-camera-3-0123"


@pytest.fixture(scope="module")
def guarded(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client without a key, of a service that requires one."""
    path: Path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"another-key-01234567\n{KEY} camera-3\n")
    with running(settings.model_copy(update={"api_keys_file": path})) as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer  {KEY}"}, {"X-API-Key": KEY}],
    ids=["bearer", "lower case", "X-API-Key"],
)
def test_a_request_with_a_key_is_answered(guarded: httpx.Client, headers: dict[str, str]) -> None:
    assert guarded.post(CLASSIFY, content=photo("red"), headers=headers).status_code == 200
    assert guarded.get("/v1/variants", headers=headers).status_code == 200


@pytest.mark.parametrize("header", [f"X-API-Key: {KEY} \t", f"Authorization: Bearer {KEY} "])
def test_white_space_behind_a_key_is_not_part_of_it(guarded: httpx.Client, header: str) -> None:
    with connected(guarded) as connection:
        connection.sendall(head(header, "Content-Length: 3") + b"abc")
        assert answer_of(connection)[0] == 415


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "a-key-of-camera-4-0123"},
        {"X-API-Key": f"{KEY} camera-3"},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer camera-3"},
        {"Authorization": b"Bearer \xff\xfe"},
    ],
    ids=str,
)
def test_a_request_without_a_valid_key_is_refused(guarded: httpx.Client, headers: dict[str, str]) -> None:
    response = guarded.post(CLASSIFY, content=photo("red"), headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["type"] == "/problems/unauthorized"


def test_refusals_are_counted(guarded: httpx.Client) -> None:
    name = 'edgewise_rejected_total{reason="unauthorized"}'
    before = samples(guarded)[name]
    guarded.post(CLASSIFY, content=photo("red"))
    assert samples(guarded)[name] == before + 1


def test_the_refusal_does_not_wait_for_the_body(guarded: httpx.Client) -> None:
    with connected(guarded) as connection:
        connection.sendall(head("Content-Length: 100000", "Expect: 100-continue"))
        assert answer_of(connection)[0] == 401


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/docs", "/openapi.json"])
def test_probes_metrics_and_docs_need_no_key(guarded: httpx.Client, path: str) -> None:
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("POST", "/v1/classify", True),
        ("POST", "/v1/feedback", True),
        ("GET", "/v1/nothing", True),
        ("GET", "/v1", True),
        ("GET", "/v2", True),
        ("GET", "/v2/", True),
        ("POST", "/v2/models/m/infer", True),
        ("GET", "/v2/healthy", True),
        ("GET", "/v2/health/live", False),
        ("GET", "/v2/health/ready", False),
        ("GET", "/v1/variants", True),
        ("GET", "/v1/variants/active", True),
        ("PUT", "/v1/variants/active", False),
        ("PUT", "/v1/variants/active/", True),
        ("GET", "/", False),
        ("GET", "/static/page.js", False),
        ("GET", "/v1x", False),
    ],
)
def test_which_paths_need_a_key(method: str, path: str, needed: bool) -> None:
    assert needs_key(method, path) is needed


def test_the_log_has_the_keys_name_and_no_key(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{KEY} camera-3\n")
    lines: list[str] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(JsonFormatter().format(record))

    logger, recorder = logging.getLogger("edgewise"), Recorder()
    logger.addHandler(recorder)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        with running(settings.model_copy(update={"api_keys_file": path})) as client:
            client.post(CLASSIFY, content=photo("red"), headers={"X-API-Key": KEY})
            client.post(f"{CLASSIFY}?key={KEY}", content=photo("red"), headers={"X-API-Key": f"{KEY}x"})
    finally:
        logger.removeHandler(recorder)
        logger.setLevel(level)
    answered, refused = (json.loads(line) for line in lines if "classify" in line)
    assert (answered["key"], answered["problem"]) == ("camera-3", None)
    assert (refused["key"], refused["problem"]) == (None, "unauthorized")
    assert KEY not in "".join(lines)


def test_openapi_says_where_a_key_is_needed(guarded: httpx.Client, client: httpx.Client) -> None:
    document = guarded.get("/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) >= {"bearer", "api_key"}
    classify = document["paths"][CLASSIFY]["post"]
    assert classify["security"] == [{"bearer": []}, {"api_key": []}]
    assert "/problems/unauthorized" in classify["responses"]["401"]["description"]
    assert "security" not in document["paths"]["/livez"]["get"]
    assert "security" not in client.get("/openapi.json").json()["paths"][CLASSIFY]["post"]


def test_openapi_has_what_clients_of_the_protocol_read_of_a_missing_key(guarded: httpx.Client) -> None:
    refused = guarded.get("/openapi.json").json()["paths"]["/v2"]["get"]["responses"]["401"]
    content = refused["content"]["application/problem+json"]
    assert content["schema"]["$ref"].endswith("/ProtocolProblem")
    assert guarded.get("/v2").json().keys() == content["examples"]["unauthorized"]["value"].keys()
