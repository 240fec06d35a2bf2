"""Text files with one name per line: labels, class ids, images."""


def lines_of(text: str) -> tuple[str, ...]:
    """Return the lines of a text, without line endings.

    Not `splitlines`: a label can contain any of the other characters that it treats as line endings.
    """
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    return tuple(lines) if text else ()
