"""Refusing options that would have no effect."""

import argparse
from collections.abc import Iterable

from build.errors import BuildError


def refuse_unused(options: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Refuse options that were given but would have no effect; `why` says in what case.

    Raises:
        BuildError: one was given; names all that were.
    """
    unused = [name for name in names if vars(options)[name.replace("-", "_")] not in (None, [])]
    if unused:
        named = " and ".join(f"--{name}" for name in unused)
        raise BuildError(f"{named} would have no effect {why}; leave that out")
