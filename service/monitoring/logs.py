"""The log: one line a record on standard output, as JSON or as text; never an image.

Standard error is left to what the runtime's native code writes there, which is neither.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

# What a record would look up for each line, and no line has.
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
logging.logAsyncioTasks = False  # type: ignore[attr-defined]

ACCESS_LOGGER = "edgewise.access"
SERVICE_LOGGER = "edgewise"

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


def configure_logging(formatter: logging.Formatter) -> None:
    """Send every record, the server's own too, through `formatter` to standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger(SERVICE_LOGGER).setLevel(logging.INFO)
    # It warns of every malformed form; the sender is told, and the access log has the status.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


def fields(**values: object) -> dict[str, dict[str, object]]:
    """The `extra` of a logging call that puts `values` into the line."""
    return {"fields": values}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "fields", {})


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
