"""`requirements/install` sets up an environment, and sets it up again only when necessary."""

import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zipfile import ZipFile

import pytest

INSTALL = Path(__file__).parent.parent / "requirements" / "install"
NEWEST = "14"
# The programs that the script runs besides Python.
TOOLS = ("cat", "cmp", "mv", "rm", "sh")


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.txt"
    path.write_text("# none\n")
    return path


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder to use as the whole PATH, without a Python."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(shutil.which(name) or pytest.skip(f"{name} is absent"))
    return folder


def add_program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def install(
    folder: Path,
    requirements: Path,
    *,
    newest: str = NEWEST,
    python: str = sys.executable,
    path: Path | None = None,
    **environ: str,
) -> subprocess.CompletedProcess[str]:
    environ |= {"HOME": str(requirements.parent), "PATH": str(path or os.environ["PATH"]), "PYTHON": python}
    return subprocess.run(  # noqa: S603
        [INSTALL, folder, requirements, newest, "seconds"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def set_up(result: subprocess.CompletedProcess[str]) -> bool:
    """Check that the run succeeded, and return whether it set up the environment."""
    assert result.returncode == 0, result.stderr
    return result.stdout != ""


def test_it_is_set_up_once(tmp_path: Path, requirements: Path) -> None:
    folder = tmp_path / "made"
    assert set_up(install(folder, requirements))
    assert not set_up(install(folder, requirements))
    assert not set_up(install(folder, requirements, python=""))
    moved = folder.rename(tmp_path / "moved")
    assert not set_up(install(moved, requirements))


def test_it_is_set_up_again_when_something_changed(tmp_path: Path, requirements: Path) -> None:
    folder = tmp_path / "made"
    assert set_up(install(folder, requirements))

    requirements.write_text("# none still\n")
    stray = folder / "stray"
    stray.touch()
    assert set_up(install(folder, requirements))
    assert not stray.exists()

    # An interrupted run leaves a Python, but not the file that is written last.
    (folder / "installed").unlink()
    assert set_up(install(folder, requirements))

    # Its Python was removed, or has another version now.
    for name in ("python", "python3"):
        (folder / "bin" / name).unlink()
    assert set_up(install(folder, requirements))
    stamp = folder / "installed"
    stamp.write_text(stamp.read_text().replace("cpython-3", "cpython-2", 1))
    assert set_up(install(folder, requirements))


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock is absent")
def test_of_two_runs_at_once_the_second_waits_for_the_first(tmp_path: Path, requirements: Path) -> None:
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: install(tmp_path / "made", requirements), range(2)))
    assert sorted(map(set_up, both)) == [False, True]
    messages = sorted(result.stderr for result in both)
    assert messages == ["", f"Waiting for another process to set up {tmp_path / 'made'} ...\n"]


def test_the_environment_of_another_checkout_is_used_but_not_changed(
    tmp_path: Path, requirements: Path
) -> None:
    folder = tmp_path / "made"
    assert set_up(install(folder, requirements))
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert not set_up(install(link, requirements))

    requirements.write_text("# none still\n")
    result = install(link, requirements)
    assert result.returncode == 1
    assert result.stderr == f"edgewise: {link} is a link to an outdated environment; remove the link.\n"
    assert (folder / "installed").exists()


def test_it_is_set_up_from_a_folder_of_wheels(tmp_path: Path, requirements: Path) -> None:
    # As in docs/systemd.md, for a node without Internet access.
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = wheels / "example-1-py3-none-any.whl"
    with ZipFile(wheel, "w") as file:
        file.writestr("example.py", "")
        file.writestr("example-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: example\nVersion: 1\n")
        file.writestr("example-1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr("example-1.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    requirements.write_text(f"example==1 --hash=sha256:{digest}\n")
    folder = tmp_path / "made"
    assert set_up(install(folder, requirements, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels)))
    assert len(list(folder.rglob("example.py"))) == 1


def test_a_failed_installation_does_not_count_as_done(tmp_path: Path, requirements: Path) -> None:
    requirements.write_text("./absent.whl --hash=sha256:" + "0" * 64 + "\n")
    folder = tmp_path / "made"
    result = install(folder, requirements)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"edgewise: {folder} is not set up")
    assert not (folder / "installed").exists()


def test_a_python_that_does_not_run_is_skipped(tmp_path: Path, requirements: Path, programs: Path) -> None:
    add_program(programs, "python3", "exit 127")
    add_program(programs, "python3.12", f'exec {sys.executable} "$@"')
    assert set_up(install(tmp_path / "made", requirements, python="", path=programs))


def test_a_missing_python_is_reported_in_one_line(tmp_path: Path, requirements: Path, programs: Path) -> None:
    result = install(tmp_path / "made", requirements, python="", path=programs)
    assert result.returncode == 1
    assert result.stderr.startswith("edgewise: no Python 3.11 to 3.14 found; tried: python3 ")
    assert result.stderr.count("\n") == 1


def test_a_python_that_is_too_new_is_reported_in_one_line(tmp_path: Path, requirements: Path) -> None:
    result = install(tmp_path / "made", requirements, newest="10")
    assert result.returncode == 1
    assert result.stderr.startswith(f"edgewise: no Python 3.11 to 3.10 found; tried: {sys.executable} ")
    assert result.stderr.count("\n") == 1


def test_a_missing_venv_is_reported_in_one_line(tmp_path: Path, requirements: Path, programs: Path) -> None:
    add_program(programs, "python3", f'case "$*" in *ensurepip*) exit 1; esac; exec {sys.executable} "$@"')
    result = install(tmp_path / "made", requirements, python="", path=programs)
    assert result.returncode == 1
    assert result.stderr.startswith("edgewise: python3 lacks venv and ensurepip; install them")
    assert result.stderr.count("\n") == 1
