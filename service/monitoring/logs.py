"""The log: one line per record on standard output, as JSON or as text; never an image.

Standard error is left to the output of the runtime's native code, which is neither.
"""

import functools
import json
import logging
import os
import select
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

# Each record would look these up, but no line contains them.
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
logging.logAsyncioTasks = False  # type: ignore[attr-defined]

ACCESS_LOGGER = "edgewise.access"
SERVICE_LOGGER = "edgewise"

STANDARD_OUTPUT = 1
# About a thousand lines.
MAX_KEPT_BYTES = 512 * 1024

_encode = json.JSONEncoder(default=str).encode


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object: time, level, logger, message, its fields, any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of ASCII: its content can't break it, control a terminal or fail to encode."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _encode(line)


class TextFormatter(logging.Formatter):
    """Formats a record for people: the message, then its fields; a traceback on separate lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, or more if there is a traceback."""
        fields = " ".join(f"{name}={_encode(value)}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname:<7} {record.getMessage()}  {fields}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class Output(logging.Handler):
    """Writes lines to a file descriptor, and never waits for the reader.

    Output that can't be written immediately is buffered, up to `MAX_KEPT_BYTES`, and written later. Lines
    beyond that are dropped, as are all lines if the reader is gone or the disk is full; `on_drop` gets
    their number.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.on_drop: Callable[[int], None] = lambda _: None
        self._descriptor = _without_waiting(descriptor)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)
        self._kept = bytearray()
        # Whether the output ends in the middle of a line, and whether the rest of that line was dropped.
        self._within_line = self._cut_off = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write, buffer or drop one record.

        The access log writes many lines at a time, and flushes them together.
        """
        line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        if len(self._kept) + len(line) > MAX_KEPT_BYTES:
            self.on_drop(1)
        else:
            self._kept += line
        if record.name != ACCESS_LOGGER:
            self.flush()

    def flush(self, wait_seconds: float = 0.0, in_all: float = 0.0) -> None:
        """Write the buffer; wait up to `wait_seconds` for each part, and `in_all` seconds in total."""
        until = time.monotonic() + in_all
        self.acquire()
        try:
            while self._kept and self._poll.poll(
                1000 * max(0.0, min(wait_seconds, until - time.monotonic()))
            ):
                written = self._write()
                if not written:
                    return
                del self._kept[:written]
        finally:
            self.release()

    def _write(self) -> int:
        # A full disk may have cut a line off: the next line must not be appended to its beginning.
        end = b"\n" if self._cut_off else b""
        # A writable pipe accepts this many bytes without blocking.
        part = end + self._kept[: select.PIPE_BUF - len(end)]
        try:
            written = os.write(self._descriptor, part)
        except BlockingIOError:  # A terminal has room, but not enough for the end of a line.
            return 0
        except OSError:
            self._cut_off = self._within_line
            self.on_drop(self._kept.count(b"\n"))
            return len(self._kept)
        self._cut_off = False
        self._within_line = not part[:written].endswith(b"\n")
        return written - len(end)


def _without_waiting(descriptor: int) -> int:
    """Return another descriptor of the same terminal, one that never blocks; if it is none, the same.

    A terminal that is writable can still block: unlike a pipe, it may have room for a part only. The
    descriptor itself has to stay as it is, since it is shared with the shell.
    """
    try:
        return os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:  # It is no terminal, or it belongs to another user.
        return descriptor


def configure_logging(formatter: logging.Formatter) -> Output:
    """Send every record, including the server's own, through `formatter` to standard output."""
    handler = Output(STANDARD_OUTPUT)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger(SERVICE_LOGGER).setLevel(logging.INFO)
    return handler


def fields(**values: object) -> dict[str, dict[str, object]]:
    """Return the `extra` of a logging call that adds `values` to the line."""
    return {"fields": values}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "fields", {})


def _time(record: logging.LogRecord) -> str:
    seconds, milliseconds = divmod(int(record.created * 1000), 1000)
    return f"{_second(seconds)}.{milliseconds:03d}+00:00"


# Many consecutive lines share a second.
@functools.lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
