import json
from uuid import UUID

import httpx
import pytest

from service.api.correlation import correlation
from service.monitoring.logs import JsonFormatter
from service.settings import Settings
from tests.api.running import access_log, running

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    "value",
    [
        f"00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-00",
        f"01-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be",
    ],
)
def test_a_traceparent_is_read(value: str) -> None:
    ids = correlation([(b"host", b"a"), (b"traceparent", value.encode())])
    assert ids == {"trace_id": TRACE, "span_id": SPAN}


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01.",
        f"01-{TRACE}-{SPAN}-01more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f" 00-{TRACE}-{SPAN}-01",
    ],
)
def test_a_malformed_traceparent_is_ignored(value: str) -> None:
    assert correlation([(b"traceparent", value.encode())]) == {}


@pytest.mark.parametrize("given", [b"a", b"order 66/~!", b"x" * 128])
def test_a_request_id_is_read(given: bytes) -> None:
    assert correlation([(b"x-request-id", given)]) == {"request_id": given.decode()}


@pytest.mark.parametrize("given", [b"", b"x" * 129, b"a\tb", b"\x1b[31m", b"\xc3\xa9", b"a\x7f"])
def test_a_malformed_request_id_is_ignored(given: bytes) -> None:
    assert correlation([(b"x-request-id", given)]) == {}


def test_the_answer_has_the_clients_request_id_or_a_new_one(client: httpx.Client) -> None:
    for path in ("/livez", "/nope", "/v1/variants"):
        assert client.get(path, headers={"X-Request-ID": "mine"}).headers["x-request-id"] == "mine"
        assert UUID(client.get(path, headers={"X-Request-ID": b"\xe9"}).headers["x-request-id"])
    problem = client.post("/v1/classify", content=b"")
    assert problem.json()["instance"] == f"urn:uuid:{problem.headers['x-request-id']}"


def test_the_log_has_the_ids_that_the_client_sent(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with access_log(caplog) as records, running(settings) as client:
        client.get("/v1/variants", headers={"X-Request-ID": "mine", "traceparent": f"00-{TRACE}-{SPAN}-01"})
        client.get("/nope")
    lines = [JsonFormatter().format(record) for record in records]
    first, second = map(json.loads, lines)
    assert (first["request_id"], first["trace_id"], first["span_id"]) == ("mine", TRACE, SPAN)
    assert first["id"] != "mine"
    assert not {"request_id", "trace_id", "span_id"} & set(second)
