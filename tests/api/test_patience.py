import time
from collections.abc import Iterator

import httpx
import pytest

from tests.api.classifying import ROUTES, request
from tests.api.running import photo

MILLISECONDS = 2000


@pytest.mark.parametrize("route", ROUTES)
def test_the_time_to_receive_the_body_is_not_counted_as_waiting(client: httpx.Client, route: str) -> None:
    whole = request(route, photo("red"), timeout_ms=MILLISECONDS)
    body = whole.read()

    def late() -> Iterator[bytes]:
        yield body[:10]
        time.sleep(1.1 * MILLISECONDS / 1000)
        yield body[10:]

    headers = {"Content-Type": whole.headers.get("Content-Type", "")}
    response = client.post(whole.url.raw_path.decode(), content=late(), headers=headers)
    assert response.status_code == 200
    # An image of a batch would have it as its problem.
    assert "deadline-exceeded" not in response.text
