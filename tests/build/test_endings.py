"""How commands end that are refused, are interrupted or can't write their output."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from build.__main__ import main
from build.training import loop
from tests.build.conftest import SIZE
from tests.build.interruptions import interrupt
from tests.full import needs_full
from tests.system.processes import ROOT, WITH_SIGNALS, wait_for

BUILD = [sys.executable, "-m", "build"]
REFUSED = ["quantize", "--weights", "nope", "--calibration", "x", "--out"]


def run_in_shell(redirection: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run `python -m build` with a redirection of its output."""
    return subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", f'exec "$0" "$@" {redirection}', *BUILD, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("errors", ["2>&-", pytest.param("2>/dev/full", marks=needs_full)])
def test_an_unwritable_standard_error_does_not_change_the_exit_status(errors: str) -> None:
    assert run_in_shell(errors, "evaluate", "nope", "--evaluation", "x").returncode == 2


@needs_full
def test_a_full_standard_error_does_not_stop_training(
    weights_file: Path, labels_file: Path, calibration: Path, tmp_path: Path
) -> None:
    network = ["--weights", weights_file, "--labels", labels_file, "--size", str(SIZE)]
    options = ["--data", calibration, "--epochs", "1", "--batch-size", "16", "--out", tmp_path / "run"]
    result = run_in_shell("2>/dev/full", "train", *network, *options)
    assert result.returncode == 0
    assert (tmp_path / "run" / "training.json").is_file()


def test_an_ascii_only_terminal_gets_tables_with_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    result = run_in_shell("", "report", "--devices", *(ROOT / "docs" / "devices").glob("*.json"))
    assert result.returncode == 0, result.stderr
    assert r"hottest \xb0C" in result.stdout


def test_slow_imports_happen_where_an_interruption_is_caught() -> None:
    """So importing the main module must not import them."""
    code = "import sys, build.__main__; print(*sys.modules)"
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {"argparse", "pydantic", "numpy", "tensorflow"} & set(result.stdout.split()) == set()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="/proc/self/maps is absent")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("library", ["pydantic_core", "libtensorflow_framework"])
def test_a_signal_while_libraries_load_ends_the_command_in_one_line(
    library: str, number: signal.Signals, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An earlier test in this process may have set it.
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    command = [*WITH_SIGNALS, *BUILD, *REFUSED, str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:  # noqa: S603
        wait_for(lambda: library in Path(f"/proc/{process.pid}/maps").read_text())
        process.send_signal(number)
        _, stderr = process.communicate()
    assert (process.returncode, stderr) == (status, b"edgewise: interrupted\n")


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_during_an_import_by_native_code_ends_in_one_line(name: str, status: int) -> None:
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
    ("steps", "message"),
    [(0, "interrupted"), (1, "interrupted; training resumes from its last checkpoint when started again")],
)
def test_an_interruption_mentions_resuming_only_after_a_checkpoint(
    steps: int,
    message: str,
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
    options = ["--data", calibration, "--epochs", "1", "--batch-size", "16", "--out", tmp_path / "run"]
    assert main([str(part) for part in ("train", *network, *options)]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"edgewise: {message}"
