"""Files that are there whole or not at all."""

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
