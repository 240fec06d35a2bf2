"""Files: read as what they should be, and their names in what is written."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from build.errors import BuildError, first_fault

_Model = TypeVar("_Model", bound=BaseModel)


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
