import asyncio
import logging
from contextlib import suppress
from pathlib import Path

import pytest

from service.renewed import Renewed, keep_renewed


def test_what_nobody_foresaw_is_told_and_renewing_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "number"
    file.write_text("1")
    # Not a number is a ValueError, which no loader of ours raises.
    number = Renewed("number", (file,), lambda: int(file.read_text()))

    async def watch() -> None:
        task = asyncio.create_task(keep_renewed([number], 0.01))
        file.write_text("one")
        while not caplog.records:
            await asyncio.sleep(0.01)
        assert number.value == 1
        file.write_text("23")
        while number.value != 23:
            await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with caplog.at_level(logging.INFO, "edgewise"):
        asyncio.run(asyncio.wait_for(watch(), 30))
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "ValueError" in str(caplog.records[0].exc_text)
