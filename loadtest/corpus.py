"""The photos to send: folders with one folder per class."""

import random
import re
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.errors import LoadTestError

DEFAULT_PHOTOS = Path(__file__).parent / "photos"
_NUMBERED = re.compile("[0-9]+_(.+)")


@dataclass(frozen=True)
class ClassName:
    """A class of the service: where it has no class ids, `class_id` is None."""

    index: int
    class_id: str | None
    label: str


@dataclass(frozen=True)
class Photo:
    """`number`: its place in the corpus; `label`: the index of its class."""

    number: int
    path: Path
    label: int


def read_files(folder: Path) -> list[tuple[Path, str]]:
    """The photos of a folder, by path, each with the name of its class's folder.

    Names that begin with a dot are passed over.

    Raises:
        LoadTestError: it can't be read, or has no folder with a file in it.
    """
    try:
        files = [
            (path, folder_of_class.name)
            for folder_of_class in _entries(folder)
            if folder_of_class.is_dir()
            for path in _entries(folder_of_class)
            if path.is_file()
        ]
    except OSError as error:
        raise LoadTestError(f"{error.filename} can't be read: {error.strerror}") from None
    if not files:
        raise LoadTestError(f"{folder} has no photos; it must hold one folder per class, with its photos")
    return files


def label(files: Sequence[tuple[Path, str]], classes: Sequence[ClassName]) -> list[Photo]:
    """The photos with the indices of their classes.

    A class's folder is named by its class id (`n02123045`), by its label where no other class has the
    same, by a number and one of the two (`0281_n02123045`; the number says nothing), or by its index
    where there are no class ids: as for `python -m service evaluate`.

    Raises:
        LoadTestError: a folder is named otherwise.
    """
    texts = Counter(each.label for each in classes)
    names = {str(each.index): each.index for each in classes if each.class_id is None}
    names |= {each.label: each.index for each in classes if texts[each.label] == 1}
    names |= {each.class_id: each.index for each in classes if each.class_id is not None}
    return [Photo(number, path, _index(names, path, name)) for number, (path, name) in enumerate(files)]


class Queue:
    """Photos in a mixed order, always the same, again and again: `passes` times or, if 0, for ever.

    A photo that was taken is to be done with or given back.
    """

    def __init__(self, photos: Sequence[Photo], passes: int = 0) -> None:
        self._photos = list(photos)
        random.Random(0).shuffle(self._photos)  # noqa: S311
        self._returned: deque[Photo] = deque()
        self._taken = 0
        self._total = passes * len(photos)
        self._done = 0

    def take(self) -> Photo | None:
        """The next photo; None when there is none any more."""
        if self._returned:
            return self._returned.popleft()
        if self._total and self._taken == self._total:
            return None
        self._taken += 1
        return self._photos[(self._taken - 1) % len(self._photos)]

    def give_back(self, photo: Photo) -> None:
        """It was not answered, and is to be the next one."""
        self._returned.append(photo)

    def done(self) -> bool:
        """One more is done with; whether that was the last of all."""
        self._done += 1
        return self._done == self._total


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _index(names: dict[str, int], path: Path, name: str) -> int:
    numbered = _NUMBERED.fullmatch(name)
    for known in (name, numbered[1] if numbered else name):
        if known in names:
            return names[known]
    raise LoadTestError(
        f"{path.parent} is named after no class of the service: expected a class id or a label,"
        f" such as {min(names)!r}, with or without a number before (0_{min(names)})"
    )
