"""The wording of validation errors."""

from pydantic import ValidationError


def first_fault(error: ValidationError) -> str:
    """Return the first error that pydantic found, as `where: what`."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
