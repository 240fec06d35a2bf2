"""Where the commands put their results: a person reads standard output, a program the JSON file."""

import json
from pathlib import Path
from typing import Any

from service.errors import StartError
from service.host.output import show, write_whole


def tell(text: str, path: Path | None, result: dict[str, Any]) -> None:
    """Show `text`, and write `result` to the file, where one is named; each whatever becomes of the other.

    Raises:
        StartError: one of the two can't be written.
    """
    # It took minutes to measure: no full disk may take both of them.
    try:
        _write_json(path, result)
    finally:
        show(text)


def _write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write `result` to the file, where one is named.

    Raises:
        StartError: it can't be written.
    """
    if path is None:
        return
    try:
        write_whole(path, f"{json.dumps(result, indent=2)}\n".encode())
    except OSError as error:
        raise StartError(f"{path} can't be written: {error.strerror}") from None
