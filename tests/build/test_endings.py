"""How commands end that can't be done, are interrupted, or have nobody to tell; as real processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.build.conftest import SIZE
from tests.system.processes import ROOT
from tests.system.test_commands import needs_full

BUILD = [sys.executable, "-m", "build"]


def by_shell(redirection: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", f'exec "$0" "$@" {redirection}', *BUILD, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("errors", ["2>&-", pytest.param("2>/dev/full", marks=needs_full)])
def test_where_nothing_can_be_said_the_status_tells(errors: str) -> None:
    assert by_shell(errors, "evaluate", "nope", "--evaluation", "x").returncode == 2


@needs_full
def test_a_full_standard_error_ends_no_training(
    weights_file: Path, labels_file: Path, calibration: Path, tmp_path: Path
) -> None:
    network = ["--weights", weights_file, "--labels", labels_file, "--size", str(SIZE)]
    how = ["--data", calibration, "--epochs", "1", "--batch-size", "16", "--out", tmp_path / "run"]
    result = by_shell("2>/dev/full", "train", *network, *how)
    assert result.returncode == 0
    assert (tmp_path / "run" / "training.json").is_file()


def test_a_terminal_of_ascii_alone_is_shown_every_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    result = by_shell("", "report", "--devices", *(ROOT / "docs" / "devices").glob("*.json"))
    assert result.returncode == 0, result.stderr
    assert r"hottest \xb0C" in result.stdout
