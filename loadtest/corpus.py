"""The photos to send: folders with one folder per class."""

import random
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.errors import LoadTestError

DEFAULT_PHOTOS = Path(__file__).parent / "photos"
_NUMBERED = re.compile("[0-9]+_(.+)")
_DIGITS = re.compile("[0-9]+")


@dataclass(frozen=True)
class ClassName:
    """A class of the service; `class_id` is None if its bundle has no class ids."""

    index: int
    class_id: str | None
    label: str


@dataclass(frozen=True)
class Photo:
    """A labelled photo. `label`: the index of its class."""

    path: Path
    label: int


def read_files(folder: Path) -> list[tuple[Path, str]]:
    """Return the photos of a folder in the order of their paths, each with the name of its class's folder.

    Names that begin with a dot are skipped.

    Raises:
        LoadTestError: the folder can't be read, or has no subfolder with a file in it.
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
    """Return the photos with the indices of their classes.

    A class's folder is named, as for `python -m service evaluate`, by its class id (`n02123045`), by its
    label if no other class has the same one, by a number and one of these two (`0281_n02123045`; the
    number is ignored), or by its index if there are no class ids.

    Raises:
        LoadTestError: a folder has another name.
    """
    texts = Counter(_composed(each.label) for each in classes)
    names = {text: each.index for each in classes if texts[text := _composed(each.label)] == 1}
    names |= {_composed(each.class_id): each.index for each in classes if each.class_id is not None}
    indices = {each.index for each in classes if each.class_id is None}
    return [Photo(path, _index(names, indices, path, name)) for path, name in files]


class Queue:
    """Repeats the photos in a shuffled order, always the same: `passes` times or, if 0, without end.

    The caller reports each photo it took with `done` or `give_back`.
    """

    def __init__(self, photos: Sequence[Photo], passes: int = 0) -> None:
        self._photos = list(photos)
        random.Random(0).shuffle(self._photos)  # noqa: S311
        self._returned: deque[Photo] = deque()
        self._taken = 0
        self._total = passes * len(photos)
        self._done = 0

    def take(self) -> Photo | None:
        """Return the next photo, or None after the last."""
        if self._returned:
            return self._returned.popleft()
        if self._total and self._taken == self._total:
            return None
        self._taken += 1
        return self._photos[(self._taken - 1) % len(self._photos)]

    def skip(self, count: int) -> int:
        """Take up to `count` photos that will not be sent; return how many there were."""
        skipped = 0
        while skipped < count and self.take() is not None:
            skipped += 1
        return skipped

    def give_back(self, photo: Photo) -> None:
        """Put back a photo that was not answered; it is the next one."""
        self._returned.append(photo)

    def done(self) -> bool:
        """Count a photo as done; return whether it was the last."""
        self._done += 1
        return self._done == self._total


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _composed(name: str) -> str:
    # As the service compares names: macOS may decompose accents.
    return unicodedata.normalize("NFC", name)


def _index(names: dict[str, int], indices: set[int], path: Path, folder: str) -> int:
    name = _composed(folder)
    numbered = _NUMBERED.fullmatch(name)
    for known in (name, numbered[1] if numbered else name):
        if known in names:
            return names[known]
    if _DIGITS.fullmatch(name) and int(name) in indices:
        return int(name)
    kinds = [f"a class id or a label, such as {min(names)!r}, optionally after a number"] if names else []
    kinds += [f"an index up to {max(indices)}"] if indices else []
    raise LoadTestError(
        f"{path.parent} is named after no class of the service: expected {', or '.join(kinds)}"
    )
