import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import StartError
from service.host.output import check_writable, write_whole


def test_a_file_is_replaced_without_leftovers(tmp_path: Path) -> None:
    for content in (b"one", b"another"):
        write_whole(tmp_path / "file", content)
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", content)]


def test_a_full_disk_leaves_only_the_old_file(small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(2**20)
    write_whole(disk / "file", b"old")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_whole(disk / "file", bytes(2**21))
    assert caught.value.errno == errno.ENOSPC
    assert [(path.name, path.read_bytes()) for path in disk.iterdir()] == [("file", b"old")]


def test_the_target_of_a_link_and_a_device_are_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"

    write_whole(Path(os.devnull), b"gone")
    assert Path(os.devnull).is_char_device()


def test_a_path_that_can_not_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    check_writable(tmp_path / "new")
    with pytest.raises(StartError, match=r"it is a folder$"):
        check_writable(tmp_path)
    with pytest.raises(StartError, match=r"absent is not a folder that this user can write to$"):
        check_writable(tmp_path / "absent" / "file")
    assert list(tmp_path.iterdir()) == []
