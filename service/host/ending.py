"""How a command ends that can't be done: with one line on standard error, and an exit status."""

import sys

UNUSABLE = 2
INTERRUPTED = 130


def tell(reason: str) -> None:
    """Write a line on standard error, as the project's."""
    # A name in it, of a folder or in a manifest, may have line ends.
    sys.stderr.write(f"edgewise: {' '.join(reason.splitlines())}\n")


def refuse(reason: str) -> int:
    """Say in one line why a command can't be done; returns its exit status, which tells where that can't."""
    tell(reason)
    return UNUSABLE
