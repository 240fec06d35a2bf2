"""TensorFlow's start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from build.tensorflow_start import starting_tensorflow
from tests.system.processes import ROOT


@pytest.fixture(autouse=True)
def libraries_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    # What an earlier test of this process may have set, and a subprocess would inherit.
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)


def test_a_command_that_loads_tensorflow_is_refused_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "quantize", "--weights", "nope", "--calibration", "x"]
    result = subprocess.run(  # noqa: S603
        [*command, "--out", tmp_path / "out"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("edgewise: --weights nope is neither")


def test_what_libraries_say_is_shown_where_they_can_not_be_loaded(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with starting_tensorflow():
            os.write(2, b"this processor lacks AVX\n")
            raise ImportError

    with pytest.raises(ImportError):
        fail()
    assert capfd.readouterr().err == "this processor lacks AVX\n"
