"""Helpers that interrupt training and watch which steps it does."""

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from build.training import loop


def interrupt(after: int, patch: pytest.MonkeyPatch) -> None:
    """Interrupt the next training after `after` steps."""
    batches = loop.batches

    def first_batches(*arguments: Any) -> Iterator[Any]:
        yield from islice(batches(*arguments), after)
        raise KeyboardInterrupt

    patch.setattr(loop, "batches", first_batches)


def copy_after_step(after: int, folder: Path, copy: Path, patch: pytest.MonkeyPatch) -> None:
    """Copy `folder` to `copy` when the next training in it has saved step `after`, as if it ended there."""
    save = loop._save

    def save_and_copy(manager: Any, done: int) -> None:
        save(manager, done)
        if done == after:
            shutil.copytree(folder, copy)

    patch.setattr(loop, "STEPS_PER_CHECKPOINT", after)
    patch.setattr(loop, "_save", save_and_copy)


def watch_steps(patch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each training step from now on is appended."""
    steps: list[int] = []
    batches = loop.batches

    def watched(views: Any, schedule: Any, first: int, last: int) -> Iterator[Any]:
        for step, batch in enumerate(batches(views, schedule, first, last), first):
            steps.append(step)
            yield batch

    patch.setattr(loop, "batches", watched)
    return steps
