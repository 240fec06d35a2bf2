"""The signals that end the process, as its first one too: PID 1 has no default actions."""

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def end_on_signal() -> None:
    """Until the service is ready, a stop ends it at once: nothing was accepted yet."""
    for number in _stopping():
        signal.signal(number, _end)


def stop_signal() -> "asyncio.Future[signal.Signals]":
    """The first signal to stop, once it comes; a second one ends the process at once, whatever is left."""
    # Only now: `end_on_signal` comes before all that takes time.
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
    """Those that stop: SIGHUP, the end of a terminal, does not where it was ignored before, by `nohup`."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in STOPPING if number != signal.SIGHUP or not ignored]


def _end(number: int, _: FrameType | None) -> None:
    # Not `sys.exit`: it would wait for the thread that loads the models.
    os._exit(0 if number == signal.SIGTERM else 128 + number)
