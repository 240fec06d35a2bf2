"""API keys: who may use the service. Only the keys' digests are kept."""

import functools
import hmac
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from service.errors import SettingsError
from service.renewed import Renewed

MIN_CHARACTERS = 16


class Keys:
    """The API keys of a file, each with the name that the log shows instead."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = {sha256(key.encode()).digest(): name for key, name in names.items()}

    def name(self, key: bytes) -> str | None:
        """Return the name of this key, None if it is unknown; the time tells nothing of the known ones."""
        digest = sha256(key).digest()
        found = None
        for known, name in self._names.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found


def load_keys(path: Path) -> Keys:
    """Read a file with one key per line, optionally followed by a name; `#` begins a comment line.

    A key without a name is named after its line: `line-3`.

    Raises:
        SettingsError: the file can't be read or has no key, or one is too short, not ASCII or a duplicate.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
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
            raise _unusable(f"{where} must have only ASCII characters")
        if key in names:
            raise _unusable(f"{where} is a duplicate")
        names[key] = name[0].strip() if name else f"line-{number}"
    if not names:
        raise _unusable(f"{path} has no key; it must have one per line")
    return Keys(names)


def renewed_keys(path: Path) -> Renewed[Keys]:
    """Return the keys of a file that can be rewritten while the service runs.

    Raises:
        SettingsError: see `load_keys`.
    """
    return Renewed("file of API keys", (path,), functools.partial(load_keys, path))


def _unusable(reason: str) -> SettingsError:
    return SettingsError(f"EDGEWISE_API_KEYS_FILE can't be used: {reason} (see docs/settings.md)")
