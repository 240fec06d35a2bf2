"""Writes the commands' results: to standard output for people, to a JSON file for programs."""

import json
from pathlib import Path
from typing import Any

from service.errors import StartError
from service.host.output import show, write_whole


def write_result(text: str, path: Path | None, result: dict[str, Any]) -> None:
    """Show `text`, and write `result` to the file if one is named; each even if the other fails.

    Raises:
        StartError: one of the two can't be written.
    """
    # It took minutes to measure: a full disk must not cost both.
    try:
        _write_json(path, result)
    finally:
        show(text)


def _write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write `result` to the file if one is named.

    Raises:
        StartError: it can't be written.
    """
    if path is None:
        return
    try:
        write_whole(path, f"{json.dumps(result, indent=2)}\n".encode())
    except OSError as error:
        raise StartError(f"{path} can't be written: {error.strerror}") from None
