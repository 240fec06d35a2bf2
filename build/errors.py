"""The one error of the build stage, and how what is not valid is said."""

from pydantic import ValidationError

from service.errors import StartError


class BuildError(StartError):
    """The build stage can't go on; `str(error)` is one line that says why and what to do."""


def first_fault(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, as `where: what`."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
