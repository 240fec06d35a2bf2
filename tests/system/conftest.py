from collections.abc import Iterator

import pytest

from service.bundle.folder import Bundle
from tests.system.images import Podman, skip_unless_possible
from tests.system.processes import Service, serving


@pytest.fixture(scope="session")
def service(default_bundle: Bundle) -> Iterator[Service]:
    """A process that serves it, and that the whole session shares."""
    with serving(bundle=default_bundle.path) as service:
        yield service


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """podman, with a base to build on."""
    skip_unless_possible()
    podman = Podman(tmp_path_factory.mktemp("podman"))
    try:
        podman.make_build_base()
        yield podman
    finally:
        podman.close()


@pytest.fixture(scope="session")
def base(podman: Podman) -> str:
    """The base of this machine's images."""
    return podman.make_run_base("amd64")


@pytest.fixture(scope="session")
def image(podman: Podman, base: str) -> str:
    """The image with all of the default bundle."""
    podman.build("localhost/edgewise:amd64", "amd64", base, REVISION="0123abc")
    return "localhost/edgewise:amd64"
