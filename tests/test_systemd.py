"""docs/edgewise.service, as far as it can be tested without installing it."""

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.server.run import LOG_SECONDS, MIN_CLOSE_SECONDS
from service.settings import Settings

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "docs" / "edgewise.service"
DOCUMENT = (ROOT / "docs" / "systemd.md").read_text()
PYTHON = "/opt/edgewise/.venv-serve/bin/python"


def section(name: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return parser[name]


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze (apt-get install systemd), which is not here")
    # systemd-analyze refuses a program that does not exist.
    text = UNIT.read_text()
    assert PYTHON in text
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace(PYTHON, sys.executable))
    command = [program, "verify", "--man=no", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert (result.returncode, result.stderr) == (0, "")


def test_the_unit_gives_the_service_enough_time_to_stop() -> None:
    settings = Settings()
    longest = int(section("Service")["TimeoutStopSec"]) - MIN_CLOSE_SECONDS - LOG_SECONDS
    assert settings.drain_grace_seconds + settings.drain_seconds < longest
    assert f"longer than {longest} seconds" in DOCUMENT


def test_the_settings_in_the_unit_exist() -> None:
    known = {f"EDGEWISE_{field.upper()}" for field in Settings.model_fields}
    assert set(re.findall(r"\bEDGEWISE_[A-Z0-9_]+\b", UNIT.read_text())) <= known


def test_the_document_installs_what_the_unit_runs() -> None:
    service = section("Service")
    folder = service["WorkingDirectory"]
    assert service["ExecStart"].startswith(f"{folder}/")
    assert f"cd {folder}\n" in DOCUMENT
    versions = re.findall(rf"^ln -sfn (\S+) {folder}$", DOCUMENT, re.MULTILINE)
    assert len(versions) == 2
    copied = re.findall(rf"root@node:{Path(folder).parent}/(\S+)/$", DOCUMENT, re.MULTILINE)
    assert set(versions) == set(copied)
    assert "make .venv-serve" in DOCUMENT
    assert service["EnvironmentFile"].removeprefix("-") in DOCUMENT
