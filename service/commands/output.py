"""Where the commands put their results: a person reads standard output, a program the JSON file."""

import json
import sys
from pathlib import Path
from typing import Any

from service.errors import StartError


def show(text: str) -> None:
    """Write `text` and a line's end to standard output."""
    sys.stdout.write(text + "\n")


def write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write `result` to the file, where one is named.

    Raises:
        StartError: it can't be written.
    """
    if path is None:
        return
    try:
        path.write_text(json.dumps(result, indent=2) + "\n")
    except OSError as error:
        raise StartError(f"{path} can't be written: {error.strerror}") from None
