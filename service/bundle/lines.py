"""Text files that name something in each line: labels, class ids, images."""


def lines_of(text: str) -> tuple[str, ...]:
    """The lines of a text, without their ends.

    Not `splitlines`: a label may have any other character that it takes for a line's end.
    """
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    return tuple(lines) if text else ()
