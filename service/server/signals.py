"""The signals that end the process, also as PID 1, which has no default actions."""

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def end_on_signal() -> None:
    """Have a stop signal end the process at once until the service is ready: nothing was accepted yet."""
    for number in _stopping():
        signal.signal(number, _end)


def stop_signal() -> "asyncio.Future[signal.Signals]":
    """Return a future for the first stop signal; a second one ends the process at once, whatever is left."""
    # Imported late: `end_on_signal` must come before anything that takes time.
    import asyncio

    loop = asyncio.get_running_loop()
    stop: asyncio.Future[signal.Signals] = loop.create_future()

    def on_signal(number: signal.Signals) -> None:
        if stop.done():
            os._exit(128 + number)
        stop.set_result(number)

    for number in _stopping():
        loop.add_signal_handler(number, on_signal, number)
    return stop


def _stopping() -> list[signal.Signals]:
    """The stop signals, without SIGHUP (a closed terminal) if it was already ignored, as under `nohup`."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in STOPPING if number != signal.SIGHUP or not ignored]


def _end(number: int, _: FrameType | None) -> None:
    # Not `sys.exit`: it would wait for the thread that loads the models.
    os._exit(0 if number == signal.SIGTERM else 128 + number)
