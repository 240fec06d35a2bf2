"""Training that is interrupted, and what was done of it when it goes on."""

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from build.training import loop


def interrupt(after: int, patch: pytest.MonkeyPatch) -> None:
    """Let the next training be interrupted after so many steps."""
    batches = loop.batches

    def some(*arguments: Any) -> Iterator[Any]:
        yield from islice(batches(*arguments), after)
        raise KeyboardInterrupt

    patch.setattr(loop, "batches", some)


def keep_as_interrupted(after: int, folder: Path, copy: Path, patch: pytest.MonkeyPatch) -> None:
    """Let the next training in `folder` leave in `copy` what is there if it ends after so many steps."""
    save = loop._save

    def kept(manager: Any, done: int) -> None:
        save(manager, done)
        if done == after:
            shutil.copytree(folder, copy)

    patch.setattr(loop, "STEPS_PER_CHECKPOINT", after)
    patch.setattr(loop, "_save", kept)


def watch_steps(patch: pytest.MonkeyPatch) -> list[int]:
    """A list to which every step that is done from now on is added."""
    steps: list[int] = []
    batches = loop.batches

    def watched(views: Any, schedule: Any, first: int, last: int) -> Iterator[Any]:
        for step, batch in enumerate(batches(views, schedule, first, last), first):
            steps.append(step)
            yield batch

    patch.setattr(loop, "batches", watched)
    return steps
