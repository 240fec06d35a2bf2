"""Run commands of the build stage that are refused."""

from pathlib import Path

import pytest

from build.__main__ import main


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that is refused; return its error, one line after progress bars and warnings."""
    assert main([str(argument) for argument in arguments]) == 2
    *before, last = capsys.readouterr().err.splitlines()
    assert last.startswith("edgewise: ")
    errors = [line for line in before if line.startswith(("edgewise: ", "Traceback"))]
    assert [line for line in errors if "representative photos, but gets" not in line] == []
    return last.removeprefix("edgewise: ")


def with_data(arguments: dict[str, Path | str], data: Path) -> dict[str, Path | str]:
    """The options of `all` with `--data` in place of `--calibration` and `--evaluation`."""
    kept = {name: value for name, value in arguments.items() if name not in ("--calibration", "--evaluation")}
    return kept | {"--data": data}
