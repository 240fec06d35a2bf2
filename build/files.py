"""Files: read as what they should be, and their names in what is written."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from build.errors import BuildError, first_fault

_Model = TypeVar("_Model", bound=BaseModel)

# An option, or a name that a file gets, before its value.
_NAMED = re.compile(r"-*[\w-]+=")


def read_json(file: Path, model: type[_Model], what: str) -> _Model:
    """What a JSON file holds; `what` it should be, in words, is said where it is something else.

    Raises:
        BuildError: it can't be read, or is no `what`.
    """
    try:
        return model.model_validate_json(file.read_bytes())
    except OSError as error:
        raise BuildError(f"{file} can't be read: {error.strerror}") from None
    except ValidationError as error:
        raise BuildError(f"{file} is no {what}: {first_fault(error)}") from None


def in_utf8(name: str) -> str:
    """Text with names of files in it, as JSON can hold it: U+FFFD for each byte that is not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def command_line(arguments: Sequence[str]) -> str:
    """A command as a bundle records it: of files and folders only the names, not where they lie.

    A bundle is for others to read. What the files held is recorded beside it, by their hashes.
    """

    def told(argument: str) -> str:
        name, equals, value = argument.partition("=") if _NAMED.match(argument) else ("", "", argument)
        return name + equals + (Path(value).name if _is_path(value) and Path(value).name else value)

    return in_utf8(f"python -m build {shlex.join(told(argument) for argument in arguments)}")


def _is_path(value: str) -> bool:
    """Whether it is one of several parts: one that exists at least in part, or leads away from here."""
    first, slash, _ = value.partition("/")
    return bool(slash) and (first in ("", ".", "..") or first.startswith("~") or Path(first).is_dir())
