from pathlib import Path

import pytest

from service.errors import SettingsError
from service.keys import MIN_CHARACTERS, load_keys

KEY = "k" * MIN_CHARACTERS


def test_each_line_is_a_key_and_its_name(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# cameras\n\n{KEY}1 camera-3, at the door\n   # more\n{KEY}2\n")
    keys = load_keys(path)
    assert keys.name(f"{KEY}1".encode()) == "camera-3, at the door"
    assert keys.name(f"{KEY}2".encode()) == "line-5"
    for unknown in (KEY, f"{KEY}12", f"{KEY}1 camera-3", "camera-3", "", "# cameras"):
        assert keys.name(unknown.encode()) is None


def test_keys_are_not_kept_in_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(KEY)
    assert KEY not in repr(vars(load_keys(path)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no key"),
        (b"# none\n\n", "has no key"),
        (
            f"{KEY}\nshort-secret name\n".encode(),
            "the key in line 2 has 12 characters, but it should have 16",
        ),
        ("schlüssel-schlüssel".encode(), "the key in line 1 must have only ASCII characters"),
        (f"{KEY} a\n{KEY} b\n".encode(), "the key in line 2 is a duplicate"),
        (b"\xff" * 20, "not UTF-8 text"),
    ],
)
def test_an_invalid_key_file_is_refused_without_quoting_keys(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"^EDGEWISE_API_KEYS_FILE can't be used: ") as caught:
        load_keys(path)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere: No such file or directory"):
        load_keys(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match="Is a directory"):
        load_keys(tmp_path)
