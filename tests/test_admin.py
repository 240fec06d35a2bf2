from pathlib import Path

import pytest

from service.admin import read_token
from service.errors import SettingsError


@pytest.mark.parametrize("content", ["0123456789abcdef", "  0123456789abcdef\n", "!~0123456789-._/+="])
def test_the_token_is_the_file_s_content_without_surrounding_space(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    assert read_token(file) == content.strip()


@pytest.mark.parametrize(
    "content",
    [b"", b" \n", b"0123456789abcde", b"0123456789 abcdef", b"0123456789abcdef\nx", "é".encode() * 20],
)
def test_an_invalid_token_is_refused_without_quoting_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="token must hold one token of 16 or more ASCII") as caught:
        read_token(file)
    assert "0123456789" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"EDGEWISE_ADMIN_TOKEN_FILE: .*/none: No such file"):
        read_token(tmp_path / "none")
    with pytest.raises(SettingsError, match="Is a directory"):
        read_token(tmp_path)
