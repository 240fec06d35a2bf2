import json

import httpx
import pytest

from service.monitoring.logs import JsonFormatter
from service.settings import Settings
from tests.api.running import access_log, photo, running, samples

OTHER = "https://other.example"


def sent(client: httpx.Client, **headers: str) -> httpx.Response:
    """The answer to a request that a page can send without a preflight."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/v1/classify", content=photo("red"), headers={"Content-Type": "text/plain", **given})


def test_a_page_of_another_origin_can_neither_send_images_nor_labels(settings: Settings) -> None:
    page = {"Origin": OTHER, "Content-Type": "text/plain"}
    with running(settings) as client:
        id_ = client.post("/v1/classify", content=photo("red")).json()["id"]
        answers = [
            client.post("/v1/classify?label=0", content=photo("red"), headers=page),
            client.post("/v1/classify/batch", files=[("image", photo("red"))], headers={"Origin": OTHER}),
            client.post("/v1/feedback", json={"id": id_, "label": 0}, headers=page),
            client.post("/v2/models/colours/infer", json={}, headers=page),
            client.put("/v1/variants/active", json={"variant": "ptq"}, headers=page),
        ]
        counted = samples(client)
    assert [(a.status_code, a.json()["type"]) for a in answers] == [(403, "/problems/foreign-origin")] * 5
    assert OTHER in answers[0].json()["detail"]
    assert answers[3].json()["error"]
    assert not [name for name in counted if name.startswith("edgewise_labelled_total")]


@pytest.mark.parametrize("origin", ["null", OTHER, "http://127.0.0.1", "http://127.0.0.1:1", "http://host"])
def test_an_origin_other_than_the_host_is_refused(client: httpx.Client, origin: str) -> None:
    assert sent(client, Origin=origin).status_code == 403


@pytest.mark.parametrize(
    ("origin", "host"),
    [("https://cam.local", "cam.local:80"), ("http://cam.local", "cam.local:8080"), ("null", ""), ("", "")],
)
def test_another_port_or_an_empty_host_is_another_origin(
    client: httpx.Client, origin: str, host: str
) -> None:
    assert sent(client, Origin=origin, Host=host).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_sec_fetch_site_takes_precedence_over_the_host(client: httpx.Client, site: str) -> None:
    assert sent(client, Origin=OTHER, Host="other.example", Sec_Fetch_Site=site).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Origin": "http://cam.local:8000", "Host": "cam.local:8000"}, id="its own"),
        pytest.param({"Origin": "https://example.com", "Host": "Example.com"}, id="behind TLS"),
        pytest.param({"Origin": "https://example.com", "Host": "example.com:443"}, id="port of TLS"),
        pytest.param({"Origin": "http://cam.local:80", "Host": "cam.local:80"}, id="port of HTTP in both"),
        pytest.param({"Origin": "http://[::1]", "Host": "[::1]:80"}, id="port of HTTP"),
        pytest.param({"Origin": "https://example.com", "Sec-Fetch-Site": "same-origin"}, id="another Host"),
        pytest.param({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, id="null origin"),
        pytest.param({"Origin": "null", "Sec-Fetch-Site": "none"}, id="no page"),
        pytest.param({"Sec-Fetch-Site": "cross-site"}, id="no origin"),
    ],
)
def test_the_services_own_page_may_send(client: httpx.Client, headers: dict[str, str]) -> None:
    assert sent(client, **headers).status_code == 200


def test_listed_origins_may_send(settings: Settings) -> None:
    with running(settings.model_copy(update={"cors_origins": (OTHER,)})) as client:
        assert sent(client, Origin=OTHER, Sec_Fetch_Site="cross-site").status_code == 200
        assert sent(client, Origin="https://third.example").status_code == 403
    with running(settings.model_copy(update={"cors_origins": ("*",)})) as client:
        assert sent(client, Origin="null").status_code == 200


def test_a_foreign_origin_is_refused_before_the_body_is_read(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with access_log(caplog) as records, running(settings) as client:
        assert sent(client, Origin=OTHER).status_code == 403
    (line,) = [json.loads(JsonFormatter().format(record)) for record in records]
    assert (line["problem"], line["bytes_in"]) == ("foreign-origin", None)
