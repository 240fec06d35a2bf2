from collections.abc import Iterator

import httpx
import pytest

from service.bundle.folder import Bundle
from service.settings import Settings
from tests.api.running import running


@pytest.fixture(scope="session")
def settings(colours: Bundle) -> Settings:
    """Small limits, so that tests can reach them."""
    return Settings(
        bundle=colours.path,
        variant="fp32",
        workers=2,
        max_body_bytes=200_000,
        max_pixels=1_000_000,
    )


@pytest.fixture(scope="session")
def client(settings: Settings) -> Iterator[httpx.Client]:
    """A client of a running service that the whole session shares."""
    with running(settings) as client:
        yield client
