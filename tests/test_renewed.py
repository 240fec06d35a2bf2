import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from service.renewed import Renewed, keep_renewed


def number_in(folder: Path) -> tuple[Path, Renewed[int]]:
    """A file with a number, which is renewed."""
    file = folder / "number"
    file.write_text("1")
    return file, Renewed("number", (file,), lambda: int(file.read_text()))


@asynccontextmanager
async def keeping(*renewed: Renewed[int]) -> AsyncIterator[asyncio.Task[None]]:
    """Keep these renewed, and end that task afterwards."""
    task = asyncio.create_task(keep_renewed(renewed, 0.01))
    yield task
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_an_unexpected_error_is_logged_and_renewing_continues(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, number = number_in(tmp_path)

    async def watch() -> None:
        async with keeping(number):
            # Text that is no number raises ValueError, which no loader of the service does.
            file.write_text("one")
            while not caplog.records:
                await asyncio.sleep(0.01)
            assert number.value == 1
            file.write_text("23")
            while caplog.records[-1].levelno != logging.INFO:
                await asyncio.sleep(0.01)
            assert number.value == 23

    with caplog.at_level(logging.INFO, "edgewise"):
        asyncio.run(asyncio.wait_for(watch(), 60))
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "ValueError" in str(caplog.records[0].exc_text)


def test_a_change_is_loaded_after_a_failing_disk_recovers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "number"
    file.write_text("1")
    failing = False

    def load() -> int:
        if failing:
            raise OSError(5, "Input/output error")
        return int(file.read_text())

    number = Renewed("number", (file,), load)
    file.write_text("23")
    failing = True
    with caplog.at_level(logging.INFO, "edgewise"):
        for _ in range(3):
            number.renew()
        assert number.value == 1
        failing = False
        number.renew()
    assert number.value == 23
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_renewing_continues_once_the_system_allows_threads_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, number = number_in(tmp_path)

    async def watch() -> None:
        # No system has that much memory for a thread's stack.
        before = threading.stack_size(1 << 46)
        async with keeping(number) as task:
            try:
                while not caplog.records and not task.done():
                    await asyncio.sleep(0.01)
            finally:
                threading.stack_size(before)
            file.write_text("23")
            while number.value != 23 and not task.done():
                await asyncio.sleep(0.01)
            assert number.value == 23

    with caplog.at_level(logging.INFO, "edgewise"):
        asyncio.run(asyncio.wait_for(watch(), 60))
    assert caplog.records[0].getMessage() == "can't look for a new number"
    assert caplog.records[-1].getMessage() == "the new number is used"


def test_a_hanging_load_does_not_block_others(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("stuck", "number")]
    for file in files:
        file.write_text("1")
    stuck, release = threading.Event(), threading.Event()
    loads = 0

    def hang() -> int:
        nonlocal loads
        loads += 1
        if loads > 1:
            stuck.set()
            release.wait(30)
        return loads

    hanging = Renewed("stuck", files[:1], hang)
    number = Renewed("number", files[1:], lambda: int(files[1].read_text()))

    async def watch() -> None:
        async with keeping(hanging, number):
            files[0].write_text("again")
            await asyncio.to_thread(stuck.wait, 30)
            files[1].write_text("23")
            while number.value != 23:
                await asyncio.sleep(0.01)
            release.set()

    asyncio.run(asyncio.wait_for(watch(), 60))
