"""What lies in files that may be written anew: a certificate, keys, a token."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
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

    def renew(self) -> None:
        """Load what is in the files, where they changed; what was before stays where that can't be used."""
        stamps = self._look()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        file = str(self._files[0])
        try:
            self.value = self._load()
        except (SettingsError, OSError) as error:
            _log.error(
                "the new %s can't be used; the one before is kept",
                self._what,
                extra=fields(file=file, reason=str(error)),
            )
        else:
            _log.info("the new %s is used", self._what, extra=fields(file=file, **self._told(self.value)))

    def _look(self) -> list[tuple[int, ...] | None]:
        return [_stamp(file) for file in self._files]


async def keep_renewed(renewed: Sequence[Renewed[Any]], seconds: float = RENEWAL_SECONDS) -> NoReturn:
    """Look at all of them every so many seconds, whatever becomes of one."""
    while True:
        await asyncio.sleep(seconds)
        for each in renewed:
            try:
                # A disk that is slow keeps no request waiting.
                await in_daemon(each.renew)
            except Exception:
                _log.exception("renewing failed in a way that nobody foresaw; what was before is kept")


def _stamp(file: Path) -> tuple[int, ...] | None:
    """What is another one when the file was written, replaced, or made readable; None where there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
