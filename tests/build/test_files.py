import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from build.files import write_whole


def test_a_file_is_replaced_and_nothing_left_beside_it(tmp_path: Path) -> None:
    for content in (b"one", b"another"):
        write_whole(tmp_path / "file", content)
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", content)]


def test_on_a_full_disk_the_old_file_stays_alone(small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(2**20)
    write_whole(disk / "file", b"old")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_whole(disk / "file", bytes(2**21))
    assert caught.value.errno == errno.ENOSPC
    assert [(path.name, path.read_bytes()) for path in disk.iterdir()] == [("file", b"old")]
