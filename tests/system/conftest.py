from collections.abc import Iterator

import pytest

from service.bundle import Bundle
from tests.system.processes import Service, serving


@pytest.fixture(scope="session")
def service(default_bundle: Bundle) -> Iterator[Service]:
    """A process that serves it, and that the whole session shares."""
    with serving(bundle=default_bundle.path) as service:
        yield service
