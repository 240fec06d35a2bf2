from collections.abc import Iterator

import httpx
import pytest

from service.settings import Settings
from tests.api.running import photo, running

PAGE = "https://page.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}


@pytest.fixture(scope="module")
def open_client(settings: Settings) -> Iterator[httpx.Client]:
    with running(settings.model_copy(update={"cors_origins": (PAGE,)})) as client:
        yield client


def test_cors_is_off_without_origins(client: httpx.Client) -> None:
    answers = [
        client.get("/v1/variants", headers={"Origin": PAGE}),
        client.post("/v1/classify", content=photo("red"), headers={"Origin": PAGE}),
        client.options("/v1/classify", headers={"Origin": PAGE, **PREFLIGHT}),
    ]
    assert [answer.status_code for answer in answers] == [200, 403, 405]
    assert not [name for answer in answers for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("body", [photo("red"), b"no image"], ids=["answer", "problem"])
def test_a_page_of_a_listed_origin_can_read_answers_and_their_headers(
    open_client: httpx.Client, body: bytes
) -> None:
    response = open_client.post("/v1/classify", content=body, headers={"Origin": PAGE})
    assert response.headers["access-control-allow-origin"] == PAGE
    exposed = response.headers["access-control-expose-headers"].lower().split(", ")
    assert {"server-timing", "retry-after", "x-request-id"} <= set(exposed)


def test_a_page_of_a_listed_origin_may_send_an_api_key(open_client: httpx.Client) -> None:
    response = open_client.options("/v1/classify", headers={"Origin": PAGE, **PREFLIGHT})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "x-api-key" in response.headers["access-control-allow-headers"]


def test_a_page_of_a_listed_origin_may_send_from_a_public_network(open_client: httpx.Client) -> None:
    private = {**PREFLIGHT, "Access-Control-Request-Private-Network": "true"}
    response = open_client.options("/v1/classify", headers={"Origin": PAGE, **private})
    assert response.status_code == 200
    assert response.headers["access-control-allow-private-network"] == "true"
    other = open_client.options("/v1/classify", headers={"Origin": "https://other.example", **private})
    assert other.status_code == 400
    assert "access-control-allow-origin" not in other.headers


def test_pages_of_other_origins_are_refused(open_client: httpx.Client) -> None:
    other = {"Origin": "https://other.example"}
    assert open_client.options("/v1/classify", headers={**other, **PREFLIGHT}).status_code == 400
    response = open_client.post("/v1/classify", content=photo("red"), headers=other)
    assert (response.status_code, response.json()["type"]) == (403, "/problems/foreign-origin")
    assert "access-control-allow-origin" not in response.headers
