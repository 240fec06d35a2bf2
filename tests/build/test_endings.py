"""How commands end that can't be done, are interrupted, or have nobody to tell; as real processes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from build.__main__ import main
from build.training import loop
from tests.build.conftest import SIZE
from tests.build.interruptions import interrupt
from tests.system.processes import ROOT, WITH_SIGNALS, wait_for
from tests.system.test_commands import needs_full

BUILD = [sys.executable, "-m", "build"]
REFUSED = ["quantize", "--weights", "nope", "--calibration", "x", "--out"]


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


def test_what_takes_time_is_imported_where_an_interruption_is_caught() -> None:
    code = "import sys, build.__main__; print(*sys.modules)"
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {"argparse", "pydantic", "numpy", "tensorflow"} & set(result.stdout.split()) == set()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell what is loaded")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("library", ["pydantic_core", "libtensorflow_framework"])
def test_while_libraries_load_a_signal_ends_it_in_one_line(
    library: str, number: signal.Signals, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What an earlier test of this process may have set.
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    command = [*WITH_SIGNALS, *BUILD, *REFUSED, str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:  # noqa: S603
        wait_for(lambda: library in Path(f"/proc/{process.pid}/maps").read_text())
        process.send_signal(number)
        _, said = process.communicate()
    assert (process.returncode, said) == (status, b"edgewise: interrupted\n")


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_while_native_code_imports_python_s_ends_it_in_one_line(name: str, status: int) -> None:
    # pydantic_core panics if its own import of datetime fails.
    program = f"""
import signal, sys
from build.__main__ import _terminate, main

class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "datetime":
            signal.raise_signal(signal.{name})

sys.meta_path.insert(0, Interrupting())
signal.signal(signal.SIGTERM, _terminate)
sys.exit(main(["report"]))
"""
    result = subprocess.run(  # noqa: S603
        [*WITH_SIGNALS, sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (status, "edgewise: interrupted\n")


@pytest.mark.parametrize(
    ("steps", "told"),
    [(0, "interrupted"), (1, "interrupted; training resumes from its last checkpoint when started again")],
)
def test_that_a_training_goes_on_is_told_where_it_does(
    steps: int,
    told: str,
    weights_file: Path,
    labels_file: Path,
    calibration: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(loop, "STEPS_PER_CHECKPOINT", 1)
    interrupt(steps, monkeypatch)
    network = ["--weights", weights_file, "--labels", labels_file, "--size", str(SIZE)]
    how = ["--data", calibration, "--epochs", "1", "--batch-size", "16", "--out", tmp_path / "run"]
    assert main([str(part) for part in ("train", *network, *how)]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"edgewise: {told}"
