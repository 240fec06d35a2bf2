"""The error of the build stage, and the wording of validation errors."""

from pydantic import ValidationError

from service.errors import StartError


class BuildError(StartError):
    """The build stage can't continue; `str(error)` is one line that says why and what to do."""


def first_fault(error: ValidationError) -> str:
    """Return the first error that pydantic found, as `where: what`."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
