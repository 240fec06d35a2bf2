from pathlib import Path

import pytest

from loadtest.capacity.command import capacity
from loadtest.capacity.options import parse
from loadtest.errors import LoadTestError
from tests.loadtest.capacity.steps import judged


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--variants", ", "),
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


def test_blanks_around_the_names_of_variants_and_repeated_names_do_not_count() -> None:
    options, _ = parse(["--variants", "fp32, qat ,,fp32"])
    assert options.variants == ["fp32", "qat"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--passes", "1"], "--passes can't be used in a search .*--step-seconds"),
        (["--variant", "qat"], "--variant can't be used in a search .*: use --variants"),
        (["--users=4"], "--users can't be used in a search .* --start-rate"),
        (["-u4"], "--users can't be used in a search"),
        (["--run-time", "5s"], "--run-time can't be used in a search .* --step-seconds"),
        (["-t", "5s"], "--run-time can't be used in a search"),
        (["--spawn-rate", "1"], "--spawn-rate can't be used in a search"),
        (["-r", "1"], "--spawn-rate can't be used in a search"),
        (["App"], "App can't be chosen"),
        # Their steps would wait for workers, or for a master, without end.
        (["--master", "--expect-workers", "2"], "--master can't be used in a search .* --processes"),
        (["--worker"], "--worker can't be used in a search"),
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
    assert "--variant NAME" not in offered


@pytest.mark.parametrize(
    ("given", "least"),
    [
        (["--fps", "0.2"], 15),
        (["--fps", "1000", "--start-rate", "1000"], 2),
        # The search goes down to an eighth of the start rate, with one camera.
        (["--start-rate", "4"], 6),
        (["--start-rate", "3"], 7),
    ],
)
def test_a_step_shorter_than_its_cameras_take_to_start_is_refused(given: list[str], least: int) -> None:
    with pytest.raises(LoadTestError, match=f"^--step-seconds is {least - 1}, .* should be {least} or more$"):
        parse([*given, "--step-seconds", str(least - 1)])
    options, _ = parse([*given, "--step-seconds", str(least)])
    rate = options.start_rate
    for below in (1, 2, 4, 8):
        cameras = max(1, round(rate / below / options.fps))
        assert not judged(rate / below, cameras, least, frames=0).held
