"""Reading JSON files, and how names of files are recorded."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from build.errors import BuildError
from service.bundle.validation import first_fault

_Model = TypeVar("_Model", bound=BaseModel)

# What comes before a value: an option, or a variant's name, as in `--out=DIR` or `fp32=FILE`.
_NAMED = re.compile(r"-*[\w-]+=")


def read_json(file: Path, model: type[_Model], what: str) -> _Model:
    """Read a JSON file as a `model`; `what` describes such a file in the error message.

    Raises:
        BuildError: the file can't be read, or isn't valid.
    """
    try:
        return model.model_validate_json(file.read_bytes())
    except OSError as error:
        raise BuildError(f"{file} can't be read: {error.strerror}") from None
    except ValidationError as error:
        raise BuildError(f"{file} is not a {what}: {first_fault(error)}") from None


def in_utf8(name: str) -> str:
    """Return text that names files as JSON can hold it: with U+FFFD for each byte that is not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def command_line(arguments: Sequence[str]) -> str:
    """Return a command as a bundle records it: with the names of files and folders, but without their paths.

    Others read the bundle. The contents of the files are recorded separately, by their hashes.
    """

    def recorded(argument: str) -> str:
        name, equals, value = argument.partition("=") if _NAMED.match(argument) else ("", "", argument)
        return name + equals + (Path(value).name if _is_path(value) and Path(value).name else value)

    return in_utf8(f"python -m build {shlex.join(recorded(argument) for argument in arguments)}")


def _is_path(value: str) -> bool:
    """Whether a value is a path with a slash: its first part exists here, or it leads out of this folder."""
    first, slash, _ = value.partition("/")
    return bool(slash) and (first in ("", ".", "..") or first.startswith("~") or Path(first).is_dir())
