import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import skimage
import sklearn.datasets
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from service.bundle.folder import Bundle, load_bundle
from service.settings import DEFAULT_BUNDLE
from tests.colours import make_models, write_colours, write_logarithmic
from tests.delegates import compile_delegate

ROOT = Path(__file__).parent.parent

# Examples have no deadline: how long they take depends on what else the machine does.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# They share container images, which take minutes to build.
CONTAINER_TESTS = {f"tests/system/test_{what}.py" for what in ("image", "kube_play", "other_images")}


class ByFile(LoadScopeScheduling):
    """Runs the tests of a file in one process, since they share fixtures; likewise all container tests."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "containers" if file in CONTAINER_TESTS else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The measurement data beside the checkout; skips without it."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"needs the data of {path}, which is not here")
    return path


@pytest.fixture(scope="session")
def default_bundle() -> Bundle:
    """The bundle that comes with the project."""
    return load_bundle(DEFAULT_BUNDLE)


@pytest.fixture(scope="session")
def photos() -> dict[str, Path]:
    """Photos from installed packages: two PNGs, two JPEGs."""
    of_skimage = Path(skimage.__file__).parent / "data"
    of_sklearn = Path(sklearn.datasets.__file__).parent / "images"
    return {
        "cat": of_skimage / "chelsea.png",
        "coffee": of_skimage / "coffee.png",
        "flower": of_sklearn / "flower.jpg",
        "temple": of_sklearn / "china.jpg",
    }


@pytest.fixture(scope="session")
def colour_models(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder with the .tflite files of the colour classifier, made once for all workers."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "colour-models"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            unfinished.mkdir(exist_ok=True)
            make_models(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def colours(colour_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The colour classifier's bundle; tests that change it use `copied`."""
    return write_colours(tmp_path_factory.mktemp("bundles") / "colours", colour_models)


@pytest.fixture
def copied(colours: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the colour classifier's bundle that a test may change."""
    shutil.copytree(colours.path, tmp_path / "copied")
    return load_bundle(tmp_path / "copied")


@pytest.fixture(scope="session")
def logarithmic(colours: Bundle, colour_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The colour classifier's bundle with an `fp32` that gives NaN for black."""
    return write_logarithmic(tmp_path_factory.mktemp("bundles") / "logarithmic", colours, colour_models)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of a working external delegate."""
    return compile_delegate(tmp_path_factory.mktemp("delegates") / "delegate.so")


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that every user can read, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A function that mounts a file system of the given size in bytes, to fill it."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or mount is None or umount is None:
        pytest.skip("only root can mount a small file system to fill")
    mounted: list[Path] = []

    def make(size: int) -> Path:
        path = tmp_path / "disk"
        path.mkdir()
        command = [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path]
        result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if result.returncode != 0:
            pytest.skip(f"a small file system to fill can't be mounted here: {result.stderr.strip()}")
        mounted.append(path)
        return path

    yield make
    for path in mounted:
        subprocess.run([umount, path], check=True)  # noqa: S603
