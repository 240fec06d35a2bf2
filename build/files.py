"""Files that are there whole or not at all, and their names in what is written."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by way of another, so that an interruption leaves the old one or none.

    Raises:
        OSError: it can't be written.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:  # A full disk: what was written would only keep it full.
        unfinished.unlink(missing_ok=True)
        raise


def in_utf8(name: str) -> str:
    """Text with names of files in it, as JSON can hold it: U+FFFD for each byte that is not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
