import http.client

import httpx
import pytest

from tests.api.running import samples


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/v1/variants", "/v2", "/openapi.json", "/docs", "/nope"]
)
def test_head_is_answered_as_get_without_a_body(client: httpx.Client, path: str) -> None:
    got = client.get(path)
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port or 80, timeout=30)
    connection.request("HEAD", path)
    head = connection.getresponse()
    assert head.status == got.status_code
    assert head.headers["Content-Type"] == got.headers["Content-Type"]
    assert head.headers["Content-Length"] == got.headers["Content-Length"]
    assert head.read() == b""
    # The connection can be used for the next request.
    connection.request("GET", "/livez")
    assert connection.getresponse().status == 200
    connection.close()


def test_head_is_refused_where_get_is(client: httpx.Client) -> None:
    response = client.head("/v1/classify")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_head_is_counted_by_its_route(client: httpx.Client) -> None:
    series = 'edgewise_requests_total{route="/livez",status="200",variant=""}'
    before = samples(client).get(series, 0)
    client.head("/livez")
    assert samples(client)[series] == before + 1
