"""API keys: who may use the service. Held as digests, so that a dump of its memory names none."""

import functools
import hmac
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from service.errors import SettingsError
from service.renewed import Renewed

MIN_CHARACTERS = 16


class Keys:
    """The API keys of a file, each with the name that the log has in its place."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = {sha256(key.encode()).digest(): name for key, name in names.items()}

    def name(self, key: bytes) -> str | None:
        """The name of this key, None where it is not known; it takes as long whichever it is."""
        digest = sha256(key).digest()
        found = None
        for known, name in self._names.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found


def load_keys(path: Path) -> Keys:
    """Read a file with a key a line, and a name behind it where it has one; `#` begins a comment's line.

    A key without a name is called after its line: `line-3`.

    Raises:
        SettingsError: the file can't be read or has no key, or one that is short, not ASCII or there twice.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise _unusable(f"{path}: {reason}") from None
    names: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, *name = line.split(maxsplit=1)
        where = f"{path}: the key in line {number}"
        if len(key) < MIN_CHARACTERS:
            raise _unusable(f"{where} has {len(key)} characters, but it should have {MIN_CHARACTERS} or more")
        if not key.isascii():
            raise _unusable(f"{where} should be of ASCII characters only")
        if key in names:
            raise _unusable(f"{where} is there twice")
        names[key] = name[0].strip() if name else f"line-{number}"
    if not names:
        raise _unusable(f"{path} has no key, but it should have one in each line")
    return Keys(names)


def renewed_keys(path: Path) -> Renewed[Keys]:
    """The keys of a file that may be written anew.

    Raises:
        SettingsError: as `load_keys` says.
    """
    return Renewed("file of API keys", (path,), functools.partial(load_keys, path))


def _unusable(reason: str) -> SettingsError:
    return SettingsError(f"EDGEWISE_API_KEYS_FILE can't be used: {reason} (see docs/settings.md)")
