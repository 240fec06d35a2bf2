import argparse
from pathlib import Path

import pytest

from loadtest.errors import LoadTestError
from loadtest.options import add_options, read_secret


@pytest.mark.parametrize(
    ("option", "text", "why"),
    [
        ("--slo-top1", "80", "80 is not a ratio, from 0 to 1"),
        ("--slo-top1", "80%", "80% is not a number"),
        ("--slo-p99", "0", "0 is not above 0"),
        ("--fps", "two", "two is not a number"),
        ("--fps", "1e300", "1e300 is above the limit of 10000; use more --users instead"),
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


@pytest.mark.parametrize("content", ["", "one\nanother\n", "ключ", "KEY camera-3"])
def test_a_file_with_other_things_than_a_key_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)
    with pytest.raises(LoadTestError, match="key should hold one key, of ASCII"):
        read_secret(tmp_path / "key")


def test_blanks_around_a_key_are_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" a-key\n")
    assert read_secret(tmp_path / "key") == "a-key"
