from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loadtest.errors import LoadTestError
from loadtest.report_folder import new_folder, report_folder


def test_no_two_tests_get_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Far more than seconds in which they are made.
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(new_folder, ["loadtest"] * 200))
    assert len(set(folders)) == 200
    assert all(folder.is_dir() and folder.parent == Path("runs") for folder in folders)


def test_a_new_folder_stays_only_if_something_is_written_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LoadTestError, match="can't start"), report_folder("", "loadtest") as unused:
        raise LoadTestError("the test can't start")
    assert not unused.exists()
    with report_folder("", "loadtest") as used:
        (used / "report.json").write_text("{}")
    assert used.is_dir()


def test_a_named_folder_may_exist_and_stays(tmp_path: Path) -> None:
    with report_folder(str(tmp_path), "loadtest") as folder:
        assert folder == tmp_path
    assert tmp_path.is_dir()
