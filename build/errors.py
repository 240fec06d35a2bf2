"""The error of the build stage."""

from service.errors import StartError


class BuildError(StartError):
    """The build stage can't continue; `str(error)` is one line that says why and what to do."""
