from pathlib import Path

import pytest

from loadtest.capacity.command import capacity
from loadtest.errors import LoadTestError


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--variants", ","),
        ("--step-seconds", "2.5"),
        ("--step-seconds", "1000000"),
        ("--step-seconds", "0"),
        ("--start-rate", "1e300"),
    ],
)
def test_what_can_not_be_searched_is_told(capsys: pytest.CaptureFixture[str], option: str, text: str) -> None:
    with pytest.raises(SystemExit):
        capacity([option, text])
    assert f"argument {option}: '{text}' " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--passes", "1"], "--passes can't be used in a search .*--step-seconds"),
        (["--users=4"], "--users can't be used in a search .* --start-rate"),
        (["-u4"], "--users can't be used in a search"),
        (["--run-time", "5s"], "--run-time can't be used in a search .* --step-seconds"),
        (["-t", "5s"], "--run-time can't be used in a search"),
        (["--spawn-rate", "1"], "--spawn-rate can't be used in a search"),
        (["-r", "1"], "--spawn-rate can't be used in a search"),
        (["App"], "App can't be chosen"),
    ],
)
def test_what_a_search_sets_itself_is_refused(tmp_path: Path, given: list[str], why: str) -> None:
    with pytest.raises(LoadTestError, match=why):
        capacity(["--host", "http://board", "--report", str(tmp_path), *given])


def test_the_help_of_a_search_offers_nothing_that_it_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        capacity(["--help"])
    offered = capsys.readouterr().out
    assert "--slo-p99" in offered
    assert not [name for name in ("--passes", "--users", "--run-time") if name in offered]
