"""The one error of the build stage."""

from service.errors import StartError


class BuildError(StartError):
    """The build stage can't go on; `str(error)` is one line that says why and what to do."""
