import json
import logging
import os
import resource
import select
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.monitoring.logs import (
    ACCESS_LOGGER,
    JsonFormatter,
    Output,
    TextFormatter,
    configure_logging,
    fields,
)


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, restored afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)


def test_a_line_of_json_has_time_level_message_and_fields(
    root: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging(JsonFormatter())
    logging.getLogger("edgewise").info("it is %s", "ready", extra=fields(port=80, text="a\nb"))
    out = capfd.readouterr().out
    assert out.count("\n") == 1
    line = json.loads(out)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(line.pop("time"))).total_seconds()) < 60
    assert line == {
        "level": "info",
        "logger": "edgewise",
        "message": "it is ready",
        "port": 80,
        "text": "a\nb",
    }


def test_a_traceback_stays_in_its_line(root: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(JsonFormatter())
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("edgewise").exception("it failed")
    out = capfd.readouterr().out
    assert out.count("\n") == 1
    assert 'raise ValueError("broken")' in json.loads(out)["traceback"]


def test_no_text_can_break_a_line_or_control_a_terminal(
    root: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    text = "\r\n\x0b\x0c\x1b[31m\x7f\x85\x9b31m\u2028\u2029\udcff"
    for formatter in (JsonFormatter(), TextFormatter()):
        configure_logging(formatter)
        logging.getLogger("edgewise").info("said", extra=fields(text=text))
        out = capfd.readouterr().out
        (line,) = out.splitlines()
        assert line.replace("\x7f", "").isprintable()
        assert json.dumps(text) in line


def test_the_text_format_is_readable(root: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(TextFormatter())
    logging.getLogger("edgewise").warning("it is %s", "late", extra=fields(path="a\nb", seconds=1.5))
    out = capfd.readouterr().out
    assert out.count("\n") == 1
    assert out.endswith(' WARNING it is late  path="a\\nb" seconds=1.5\n')


@pytest.mark.parametrize(
    ("logger", "level", "shown"),
    [
        ("edgewise.access", logging.INFO, True),
        ("uvicorn.error", logging.INFO, False),
        ("uvicorn.error", logging.WARNING, True),
    ],
)
def test_the_logger_and_level_decide_what_is_shown(
    root: logging.Logger, capfd: pytest.CaptureFixture[str], logger: str, level: int, shown: bool
) -> None:
    output = configure_logging(JsonFormatter())
    logging.getLogger(logger).log(level, "something")
    output.flush()
    assert bool(capfd.readouterr().out) is shown


def test_a_slow_reader_delays_the_flush_no_longer_than_allowed() -> None:
    reader, writer = os.pipe()
    ended = threading.Event()

    def read_slowly() -> None:
        while not ended.wait(0.05):
            os.read(reader, select.PIPE_BUF)

    output = Output(writer)
    record = logging.LogRecord(ACCESS_LOGGER, logging.INFO, __file__, 0, "x" * 1000, None, None)
    for _ in range(400):
        output.emit(record)
    thread = threading.Thread(target=read_slowly)
    thread.start()
    started = time.monotonic()
    output.flush(1, 0.3)
    took = time.monotonic() - started
    ended.set()
    thread.join()
    os.close(reader)
    os.close(writer)
    assert took >= 0.3
    # The reader would need seconds to read all of it.
    assert output._kept


def test_a_terminal_that_nobody_reads_is_not_waited_for() -> None:
    screen, terminal = os.openpty()
    output = Output(terminal)
    lines = 600

    def write() -> None:
        for _ in range(lines):
            output.emit(logging.makeLogRecord({"msg": "x" * 700}))

    thread = threading.Thread(target=write)
    thread.start()
    thread.join(30)
    waits = thread.is_alive()
    content = b""
    while content.count(b"\n") < lines:
        content += os.read(screen, 65536)
        output.flush()
    thread.join()
    os.close(screen)
    os.close(terminal)
    assert not waits
    assert set(content.splitlines()) == {b"x" * 700}


def test_after_a_full_disk_lines_are_whole_and_lost_ones_counted(tmp_path: Path) -> None:
    lost: list[int] = []
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (tmp_path / "log").open("wb") as file:
        output = Output(file.fileno())
        output.on_drop = lost.append
        output.emit(logging.makeLogRecord({"msg": "before"}))
        # With this limit on file sizes, writing fails as on a full disk, after what still fits.
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, unlimited[1]))
        try:
            for message in ("cut off", "lost"):
                output.emit(logging.makeLogRecord({"msg": message}))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        for message in ("after", "the end"):
            output.emit(logging.makeLogRecord({"msg": message}))
    assert (tmp_path / "log").read_text() == "before\ncut\nafter\nthe end\n"
    assert sum(lost) == 2
