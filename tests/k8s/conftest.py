import tomllib

import pytest

from service.app import create_app
from service.settings import Settings
from tests.k8s.manifests import ROOT


@pytest.fixture(scope="session")
def version() -> str:
    """The project's version."""
    project: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["version"]


@pytest.fixture(scope="session")
def routes() -> set[str]:
    """The paths of the service's routes."""
    return set(create_app(Settings()).openapi()["paths"])
