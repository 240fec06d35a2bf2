from collections.abc import Iterator
from pathlib import Path

import pytest

from service.bundle.folder import Bundle
from tests.system.loadtest.loads import write_photos
from tests.system.processes import Service, serving


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled photos of three colours."""
    return write_photos(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def service(colours: Bundle) -> Iterator[Service]:
    """A service for one module only, so that its metrics count no other requests."""
    with serving(bundle=colours.path) as service:
        yield service
