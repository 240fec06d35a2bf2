"""Folders of labelled images: one folder per class."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from service.bundle import Classes, sha256_of
from service.errors import DatasetError
from service.manifest import ImageSet

_DIGITS = re.compile("[0-9]+")


@dataclass(frozen=True)
class LabelledImage:
    """An image file, the index of its class, and the SHA-256 of its bytes in hex."""

    path: Path
    index: int
    sha256: str


def labelled_images(folder: Path, classes: Classes) -> list[LabelledImage]:
    """Every image of a folder with one folder per class, by path.

    A class's folder is named by its class id (`n02123045`), by a number and its class id
    (`0281_n02123045`), by its label where no other class has the same, or by its index where
    there are no class ids. Every file in it is an image; names that begin with a dot are
    passed over.

    Raises:
        DatasetError: a folder can't be read, is named otherwise, is empty, holds folders, or is
            the second of its class.
    """
    names = _names(classes)
    images: list[LabelledImage] = []
    owners: dict[int, Path] = {}
    for class_folder in _entries(folder):
        if not class_folder.is_dir():
            continue
        index = names.index(class_folder.name)
        if index is None:
            raise DatasetError(
                f"{class_folder} is named after no class of the model: expected {names.expected}"
            )
        if index in owners:
            raise DatasetError(f"{class_folder} and {owners[index]} are of the same class; put them together")
        owners[index] = class_folder
        images += _class_images(class_folder, index)
    if not images:
        raise DatasetError(f"{folder} has no folders of images; it must hold one folder per class")
    return images


def image_set(name: str, digests: Iterable[str]) -> ImageSet:
    """The set of the images with these SHA-256 digests (hex), in any order."""
    lines = sorted(digests)
    content = "".join(f"{digest}\n" for digest in lines)
    return ImageSet(name=name, images=len(lines), sha256=hashlib.sha256(content.encode()).hexdigest())


@dataclass(frozen=True)
class _Names:
    """What a class's folder may be called; `class_ids` is empty where there are none."""

    class_ids: dict[str, int]
    labels: dict[str, int]
    classes: int

    @property
    def expected(self) -> str:
        return "a class id, 0_<class id> or a label" if self.class_ids else "a label or an index"

    def index(self, name: str) -> int | None:
        number, _, rest = name.partition("_")
        if name in self.class_ids:
            return self.class_ids[name]
        if _DIGITS.fullmatch(number) and rest in self.class_ids:
            return self.class_ids[rest]
        if name in self.labels:
            return self.labels[name]
        if not self.class_ids and _DIGITS.fullmatch(name) and int(name) < self.classes:
            return int(name)
        return None


def _names(classes: Classes) -> _Names:
    counts = Counter(classes.labels)
    return _Names(
        class_ids={class_id: index for index, class_id in enumerate(classes.class_ids or ())},
        labels={label: index for index, label in enumerate(classes.labels) if counts[label] == 1},
        classes=len(classes.labels),
    )


def _class_images(folder: Path, index: int) -> Iterator[LabelledImage]:
    paths = _entries(folder)
    if not paths:
        raise DatasetError(f"{folder} is empty; remove it, or put the images of its class there")
    for path in paths:
        if path.is_dir():
            raise DatasetError(f"{path} is a folder within a class's folder; put its images into {folder}")
        try:
            yield LabelledImage(path, index, sha256_of(path))
        except OSError as error:
            raise DatasetError(f"{path} can't be read: {error.strerror}") from None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{folder} can't be read: {error.strerror}") from None
