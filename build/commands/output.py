"""Results on standard output."""

from build.files import in_utf8
from service.host import output


def show(text: str) -> None:
    """Write `text` and a line end to standard output."""
    output.show(in_utf8(text))
