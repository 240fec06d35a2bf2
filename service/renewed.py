"""Values from files that can be rewritten while the service runs: a certificate, keys, a token."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from service.errors import SettingsError
from service.host.threads import in_daemon
from service.monitoring.logs import SERVICE_LOGGER, fields

# How often to look at the files.
RENEWAL_SECONDS = 10.0

_T = TypeVar("_T")

_log = logging.getLogger(SERVICE_LOGGER)


class Renewed(Generic[_T]):
    """A value that `load` makes from files, loaded again when they change.

    `value` is the last one loaded. `what` names it in the log; `log_fields` returns more log fields for it.

    Raises:
        SettingsError: raised by `load`.
    """

    def __init__(
        self,
        what: str,
        files: Sequence[Path],
        load: Callable[[], _T],
        log_fields: Callable[[_T], Mapping[str, object]] = lambda _: {},
    ) -> None:
        self.what = what
        self._files = files
        self._load = load
        self._log_fields = log_fields
        # Taken before the files are read: a change made meanwhile is found the next time.
        self._stamps = self._look()
        self.value = load()
        # The last failure logged, so that each is logged once.
        self._failure: tuple[object, ...] = ()

    def renew(self) -> None:
        """Reload the files if they changed; if they can't be used, keep the previous value."""
        stamps = self._look()
        if stamps == self._stamps:
            return
        try:
            self.value = self._load()
        except Exception as error:
            # It is tried again the next time: a disk may fail temporarily.
            self._log_failure(stamps, error)
            return
        self._stamps, self._failure = stamps, ()
        details = fields(file=str(self._files[0]), **self._log_fields(self.value))
        _log.info("the new %s is used", self.what, extra=details)

    def _log_failure(self, stamps: list[tuple[int, ...] | None], error: Exception) -> None:
        failure = (stamps, type(error), str(error))
        if failure == self._failure:
            return
        self._failure = failure
        is_foreseen = isinstance(error, SettingsError | OSError)
        _log.error(
            "the new %s can't be used; the previous one is kept",
            self.what,
            exc_info=None if is_foreseen else error,
            extra=fields(file=str(self._files[0]), reason=str(error)),
        )

    def _look(self) -> list[tuple[int, ...] | None]:
        return [_stamp(file) for file in self._files]


async def keep_renewed(renewed: Iterable[Renewed[Any]], seconds: float = RENEWAL_SECONDS) -> None:
    """Check each of them every `seconds` seconds, independently of the others, until cancelled."""
    await asyncio.gather(*(_keep(each, seconds) for each in renewed))


async def _keep(each: Renewed[Any], seconds: float) -> NoReturn:
    while True:
        await asyncio.sleep(seconds)
        try:
            # In a thread, so that a slow disk keeps no request waiting.
            await in_daemon(each.renew)
        except RuntimeError as error:
            # The system may allow another thread again the next time.
            _log.error("can't look for a new %s", each.what, extra=fields(reason=str(error)))


def _stamp(file: Path) -> tuple[int, ...] | None:
    """A stamp that changes when the file is written, replaced or made readable; None if there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
