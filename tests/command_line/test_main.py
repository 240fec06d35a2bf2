import re
from pathlib import Path

import pytest

from service import VERSION
from service.__main__ import main
from tests.command_line.output import one_line
from tests.full import needs_full


def test_version_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"edgewise {VERSION}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["evaluate"],
        ["benchmark", "--runs", "0"],
        ["benchmark", "--variants", ","],
        ["profile", "--variants", ""],
        ["profile", "--top", "0"],
        ["profile", "--runs", "1000000001"],
        ["profile", "--runs", "9" * 5000],
        ["evaluate", "x", "--crop", "half"],
        ["--nope"],
    ],
)
def test_a_wrong_command_line_ends_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_an_unwritable_result_file_is_refused_before_measuring(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "no such folder" / "result.json"
    assert main(["benchmark", "--variants", "ptq", "--runs", "10", "--json", str(file)]) == 2
    captured = capfd.readouterr()
    assert "no such folder is not a folder that this user can write to" in one_line(captured.err)
    # The benchmark was not run, so no table is lost.
    assert captured.out == ""


@needs_full
@pytest.mark.parametrize(
    ("command", "table"),
    [
        (["benchmark", "--variants", "ptq", "--runs", "10"], r"^ptq +0\.0 "),
        (["profile", "--variants", "ptq", "--runs", "1", "--name", "a board"], "^By kind: "),
        (["evaluate", "{photos}", "--variants", "ptq"], r"^ptq +93\.33 "),
    ],
)
def test_the_table_is_printed_even_if_the_disk_is_full(
    command: list[str], table: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*(part.format(photos=folder) for part in command), "--json", "/dev/full"]) == 2
    captured = capfd.readouterr()
    assert one_line(captured.err) == "/dev/full can't be written: No space left on device"
    assert re.search(table, captured.out, re.MULTILINE)


@pytest.mark.parametrize("command", ["serve", "check", "evaluate", "benchmark", "profile"])
def test_the_help_of_every_command_says_what_it_does(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main(["--help"])
    (what,) = re.findall(rf"^ +{command}\s+(\S.*)$", capsys.readouterr().out, re.MULTILINE)
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert f"\n{what[0].upper()}{what[1:]}.\n" in capsys.readouterr().out
