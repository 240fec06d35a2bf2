"""The output of libraries while TensorFlow is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from build.tensorflow_start import starting_tensorflow
from tests.system.processes import ROOT


@pytest.fixture(autouse=True)
def default_log_level(monkeypatch: pytest.MonkeyPatch) -> None:
    # An earlier test in this process may have set it, and a subprocess would inherit it.
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)


def test_a_refusal_after_loading_tensorflow_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "quantize", "--weights", "nope", "--calibration", "x"]
    result = subprocess.run(  # noqa: S603
        [*command, "--out", tmp_path / "out"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("edgewise: --weights nope is neither")


def test_the_output_of_libraries_is_shown_if_loading_them_fails(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with starting_tensorflow():
            os.write(2, b"this processor lacks AVX\n")
            raise ImportError

    with pytest.raises(ImportError):
        fail()
    assert capfd.readouterr().err == "this processor lacks AVX\n"
