"""Where results go: lines on standard output, and files that are written whole or not at all."""

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, cast

from service.errors import StartError

_STANDARD_OUTPUT = 1


class _Forgiving:
    """A stream that drops what it can't write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def forgive_standard_error() -> None:
    """Let work continue if standard error is full or gone: progress bars and messages are then lost."""
    if not isinstance(sys.stderr, _Forgiving):
        sys.stderr = cast("TextIO", _Forgiving(sys.stderr))


def escape_unencodable() -> None:
    r"""Make standard output write a character that its encoding lacks as `\u2026` instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def show(text: str) -> None:
    """Write `text` and a line break to standard output, if there is one.

    Raises:
        StartError: it can't be written: the disk is full, or the reader has gone.
    """
    try:
        print(text, flush=True)  # noqa: T201
    except OSError as error:
        # Otherwise Python would try to write the rest again at exit, and fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STANDARD_OUTPUT)
        raise StartError(f"standard output can't be written: {error.strerror}") from None


def check_writable(path: Path) -> None:
    """Check that a file can be written, before the work whose result it will hold.

    Raises:
        StartError: it can't.
    """
    # Not with `Path`, which raises an error if a folder above can't be searched.
    there = os.path.exists(path)  # noqa: PTH110
    if there and os.path.isdir(path):  # noqa: PTH112
        raise StartError(f"{path} can't be written: it is a folder")
    if there and not os.access(path, os.W_OK, effective_ids=True):
        raise StartError(f"{path} can't be written by this user")
    if not there and not os.access(path.parent, os.W_OK, effective_ids=True):
        raise StartError(
            f"{path} can't be written: {path.parent} is not a folder that this user can write to"
        )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by way of a temporary one, so that an interruption leaves the old file or none.

    If `path` is a link, or not a regular file, such as `/dev/stdout`, it is written directly, and so is a
    file in a folder that can't be written to.

    Raises:
        OSError: it can't be written.
    """
    as_it_is = path.is_symlink() or not path.is_file() or not os.access(path.parent, os.W_OK)
    if path.exists() and as_it_is:
        path.write_bytes(content)
        return
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
