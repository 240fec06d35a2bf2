"""How a command ends if it can't be done: with one line on standard error, and an exit status."""

import sys

UNUSABLE = 2
INTERRUPTED = 130


def print_notice(reason: str) -> None:
    """Write a line to standard error, prefixed with the project's name."""
    # A name in it, of a folder or in a manifest, can contain line breaks.
    sys.stderr.write(f"edgewise: {' '.join(reason.splitlines())}\n")


def refuse(reason: str) -> int:
    """Report in one line why a command can't be done; return the exit status that says so too."""
    print_notice(reason)
    return UNUSABLE
