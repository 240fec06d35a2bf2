from collections.abc import Iterator

import pytest

from service.bundle.folder import Bundle
from tests.system.connections import PATIENT
from tests.system.images import Podman, skip_unless_images_can_be_built
from tests.system.processes import Service, serving


@pytest.fixture(scope="session")
def service(default_bundle: Bundle) -> Iterator[Service]:
    """A service of the default bundle, shared by the whole session."""
    with serving(bundle=default_bundle.path) as service:
        yield service


@pytest.fixture(scope="module")
def small(colours: Bundle) -> Iterator[Service]:
    """A service that takes 8 connections and waits very long for bodies; each file of tests has its own."""
    with serving(bundle=colours.path, **PATIENT, max_connections=8, workers=1) as service:
        yield service


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """podman, with the base image for builds."""
    skip_unless_images_can_be_built()
    podman = Podman(tmp_path_factory.mktemp("podman"))
    try:
        podman.make_build_base()
        yield podman
    finally:
        podman.close()


@pytest.fixture(scope="session")
def base(podman: Podman) -> str:
    """The base image for this machine's architecture."""
    return podman.make_run_base("amd64")


@pytest.fixture(scope="session")
def image(podman: Podman, base: str) -> str:
    """The image with the whole default bundle."""
    podman.build("localhost/edgewise:amd64", "amd64", base, REVISION="0123abc")
    return "localhost/edgewise:amd64"
