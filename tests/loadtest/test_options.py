import argparse

import pytest

from loadtest.options import add_options


@pytest.mark.parametrize(
    ("option", "text", "why"),
    [
        ("--slo-top1", "80", "80 is not a ratio, from 0 to 1"),
        ("--slo-top1", "80%", "80% is not a number"),
        ("--slo-p99", "0", "0 is not above 0"),
        ("--fps", "two", "two is not a number"),
        ("--passes", "0", "0 is not a whole number above 0"),
        ("--passes", "-1", "-1 is not a whole number above 0"),
        ("--passes", "1.5", "1.5 is not a whole number above 0"),
    ],
)
def test_a_bad_number_is_told(capsys: pytest.CaptureFixture[str], option: str, text: str, why: str) -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args([option, text])
    assert ended.value.code == 2
    assert f"argument {option}: {why}\n" in capsys.readouterr().err
