"""What lies in files that may be written anew: a certificate, keys, a token."""

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
    """What `load` makes of files, loaded anew when they change.

    `value` is what was loaded last. `what` names it in the log, `told` says what else the log has of it.

    Raises:
        SettingsError: `load` did.
    """

    def __init__(
        self,
        what: str,
        files: Sequence[Path],
        load: Callable[[], _T],
        told: Callable[[_T], Mapping[str, object]] = lambda _: {},
    ) -> None:
        self._what = what
        self._files = files
        self._load = load
        self._told = told
        # Taken before the files are read: what is written meanwhile is found the next time.
        self._stamps = self._look()
        self.value = load()
        # What was told of a failure, so that each is told once.
        self._failure: tuple[object, ...] = ()

    def renew(self) -> None:
        """Load what is in the files, where they changed; what was before stays where that can't be used."""
        stamps = self._look()
        if stamps == self._stamps:
            return
        try:
            self.value = self._load()
        except Exception as error:
            # It is tried again the next time: a disk may fail for a while.
            self._tell(stamps, error)
            return
        self._stamps, self._failure = stamps, ()
        details = fields(file=str(self._files[0]), **self._told(self.value))
        _log.info("the new %s is used", self._what, extra=details)

    def _tell(self, stamps: list[tuple[int, ...] | None], error: Exception) -> None:
        failure = (stamps, type(error), str(error))
        if failure == self._failure:
            return
        self._failure = failure
        is_foreseen = isinstance(error, SettingsError | OSError)
        _log.error(
            "the new %s can't be used; the one before is kept",
            self._what,
            exc_info=None if is_foreseen else error,
            extra=fields(file=str(self._files[0]), reason=str(error)),
        )

    def _look(self) -> list[tuple[int, ...] | None]:
        return [_stamp(file) for file in self._files]


async def keep_renewed(renewed: Iterable[Renewed[Any]], seconds: float = RENEWAL_SECONDS) -> None:
    """Look at each of them every so many seconds, whatever becomes of another, until it is cancelled."""
    await asyncio.gather(*(_keep(each, seconds) for each in renewed))


async def _keep(each: Renewed[Any], seconds: float) -> NoReturn:
    while True:
        await asyncio.sleep(seconds)
        # A disk that is slow keeps no request waiting.
        await in_daemon(each.renew)


def _stamp(file: Path) -> tuple[int, ...] | None:
    """What is another one when the file was written, replaced, or made readable; None where there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
