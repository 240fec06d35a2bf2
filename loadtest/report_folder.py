"""The folder that a command writes its report to."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loadtest.errors import LoadTestError

REPORT_FILE = "report.json"
RUNS = Path("runs")


@contextmanager
def report_folder(named: str, command: str) -> Iterator[Path]:
    """Yield the folder named by an option, or else a new one, removed again if nothing is written to it.

    Raises:
        LoadTestError: it can't be created, is a file, or can't be written to.
    """
    if named:
        make_folder(Path(named))
        yield Path(named)
        return
    folder = new_folder(command)
    try:
        yield folder
    finally:
        with suppress(OSError):  # It isn't empty, or is gone.
            folder.rmdir()


def new_folder(command: str) -> Path:
    """Create a folder below `runs` for a command, named by the time, with a number if that name is taken.

    Raises:
        LoadTestError: it can't be created.
    """
    make_folder(RUNS)
    first = RUNS / time.strftime(f"{command}-%Y%m%d-%H%M%S")
    folder, number = first, 1
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = first.with_name(f"{first.name}-{number}")
        except OSError as error:
            raise _unwritable(folder, error) from None
        else:
            return folder


def make_folder(folder: Path) -> None:
    """Create a folder unless it exists, and check that it can be written to.

    Raises:
        LoadTestError: it can't be created, is a file, or can't be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(folder: Path, error: OSError) -> LoadTestError:
    return LoadTestError(f"the report can't be written to {folder}: {error.strerror}")
