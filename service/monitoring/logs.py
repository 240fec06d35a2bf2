"""The log: one line a record on standard output, as JSON or as text; never an image.

Standard error is left to what the runtime's native code writes there, which is neither.
"""

import json
import logging
import os
import select
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

# What a record would look up for each line, and no line has.
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
logging.logAsyncioTasks = False  # type: ignore[attr-defined]

ACCESS_LOGGER = "edgewise.access"
SERVICE_LOGGER = "edgewise"

STANDARD_OUTPUT = 1

_encode = json.JSONEncoder(default=str).encode


class JsonFormatter(logging.Formatter):
    """A record as one JSON object: time, level, logger, message, the record's fields, any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, in ASCII: what is in it can't break the line, steer a terminal, or fail to be encoded."""
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
    """A record for a person: the message, then the record's fields; a traceback on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and more only for a traceback."""
        fields = " ".join(f"{name}={_encode(value)}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname:<7} {record.getMessage()}  {fields}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class Output(logging.Handler):
    """Writes lines to a descriptor, and never waits for whoever reads them.

    What can't be written at once, since a pipe is full or its reader gone, or a disk is full, is
    dropped; `on_drop` is called for each line.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.on_drop: Callable[[], None] = lambda: None
        self._descriptor = descriptor
        self._writable = select.poll()
        self._writable.register(descriptor, select.POLLOUT)
        self._in_line = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, or drop it."""
        line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        if self._in_line:
            line = b"\n" + line
        while line:
            written = self._write(line[: select.PIPE_BUF])
            if not written:
                self.on_drop()
                return
            self._in_line = len(line) > written
            line = line[written:]

    def _write(self, part: bytes) -> int:
        """How much was written: a descriptor that is writable takes so little without waiting."""
        try:
            return os.write(self._descriptor, part) if self._writable.poll(0) else 0
        except OSError:
            return 0


def configure_logging(formatter: logging.Formatter) -> Output:
    """Send every record, the server's own too, through `formatter` to standard output."""
    handler = Output(STANDARD_OUTPUT)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger(SERVICE_LOGGER).setLevel(logging.INFO)
    # It warns of every malformed form; the sender is told, and the access log has the status.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    return handler


def fields(**values: object) -> dict[str, dict[str, object]]:
    """The `extra` of a logging call that puts `values` into the line."""
    return {"fields": values}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "fields", {})


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
