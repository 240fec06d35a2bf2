"""Reads folders of labelled images: one folder per class."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.bundle.folder import Classes, composed, sha256_of
from service.bundle.manifest import ImageSet
from service.errors import DatasetError, nearest

_DIGITS = re.compile("[0-9]+")
_NUMBERED = re.compile("([0-9]+)_(.+)")


@dataclass(frozen=True)
class LabelledImage:
    """An image file, the index of its class, and the SHA-256 of its bytes in hex."""

    path: Path
    index: int
    sha256: str


def labelled_images(folder: Path, classes: Classes) -> list[LabelledImage]:
    """Return the images of a folder with one folder per class, by path; duplicates in a class count once.

    A class's folder is named after its class id (`n02123045`), or its label if no other class has the
    same, either of them optionally after a number, which is ignored (`0281_n02123045`, `07_Kiwi`); or
    after its index if there are no class ids. Every file in it is an image, except that names starting
    with a dot are ignored. Names are compared regardless of their Unicode form: macOS decomposes accents.

    Raises:
        DatasetError: a folder can't be read, has another name, is empty, contains folders, or is
            the second one of its class.
    """
    names = _names(classes)
    images: list[LabelledImage] = []
    owners: dict[int, Path] = {}
    for class_folder in class_folders(folder):
        index = names.index(class_folder.name)
        if index is None:
            raise DatasetError(
                f"{class_folder} is named after no class of the model:"
                f" expected {names.expected(class_folder.name)}"
            )
        if index in owners:
            raise DatasetError(f"{class_folder} and {owners[index]} are of the same class; put them together")
        owners[index] = class_folder
        images += _class_images(class_folder, index)
    return images


def refuse_two_labels(images: Iterable[LabelledImage]) -> None:
    """Check that no image, by its content, is in the folders of two classes.

    Raises:
        DatasetError: one is; the message names both files.
    """
    owners: dict[str, LabelledImage] = {}
    for image in images:
        first = owners.setdefault(image.sha256, image)
        if first.index != image.index:
            raise DatasetError(
                f"{first.path} and {image.path} are the same image in the folders of two classes;"
                " take it out of the wrong one"
            )


def class_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, by name, without those that start with a dot.

    Raises:
        DatasetError: it can't be read, or there are none.
    """
    with _reading(folder):
        entries = _entries(folder)
        for path in entries:
            if path.is_symlink() and not path.exists():
                raise DatasetError(f"{path} is a broken link; fix or remove it")
        folders = [path for path in entries if path.is_dir()]
    if not folders:
        raise DatasetError(f"{folder} has no folders of images; it must hold one folder per class")
    return folders


def numbered(name: str) -> tuple[int | None, str]:
    """Split a folder's name into a number, or None, and the rest: `07_Kiwi` → 7, `Kiwi`."""
    match = _NUMBERED.fullmatch(name)
    return (int(match[1]), match[2]) if match else (None, name)


def image_set(name: str, digests: Iterable[str]) -> ImageSet:
    """Return the set of images with these SHA-256 digests (hex), in any order."""
    lines = sorted(digests)
    content = "".join(f"{digest}\n" for digest in lines)
    return ImageSet(name=name, images=len(lines), sha256=hashlib.sha256(content.encode()).hexdigest())


@dataclass(frozen=True)
class _Names:
    """What folders are named after: a class id, if there are any, or a label that only one class has."""

    class_ids: dict[str, int]
    labels: dict[str, list[int]]
    classes: int

    def expected(self, name: str) -> str:
        label = composed(numbered(name)[1])
        sharing = self.labels.get(label, [])
        if len(sharing) > 1:
            ids = {index: class_id for class_id, index in self.class_ids.items()}
            named = ", ".join(ids.get(index, str(index)) for index in sharing)
            return f"one of {named}, the classes that share the label {label!r}"
        kinds = (
            "a class id or a label, optionally after a number (0_<class id>)"
            if self.class_ids
            else "a label, optionally after a number (0_<label>), or an index"
        )
        alone = [label for label, indices in self.labels.items() if len(indices) == 1]
        near = nearest(label, [*self.class_ids, *alone])
        return f"{kinds}; the nearest is {near!r}" if near else kinds

    def index(self, name: str) -> int | None:
        name = composed(name)
        for known in (name, numbered(name)[1]):
            if known in self.class_ids:
                return self.class_ids[known]
            if len(indices := self.labels.get(known, [])) == 1:
                return indices[0]
        if not self.class_ids and _DIGITS.fullmatch(name) and int(name) < self.classes:
            return int(name)
        return None


def _names(classes: Classes) -> _Names:
    return _Names(
        class_ids=classes.by_class_id(),
        labels=classes.by_label(),
        classes=len(classes.labels),
    )


def _class_images(folder: Path, index: int) -> Iterable[LabelledImage]:
    with _reading(folder):
        paths = _entries(folder)
    if not paths:
        raise DatasetError(f"{folder} is empty; remove it, or put the images of its class there")
    images: dict[str, LabelledImage] = {}
    for path in paths:
        with _reading(path):
            if path.is_dir():
                raise DatasetError(
                    f"{path} is a folder within a class's folder; put its images into {folder}"
                )
            if path.exists() and not path.is_file():  # Reading a pipe would block forever.
                raise DatasetError(f"{path} is not a file; remove it")
            digest = sha256_of(path)
        images.setdefault(digest, LabelledImage(path, index, digest))
    return images.values()


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Refuse what can't be read, including files in a folder that can be listed but not entered."""
    try:
        yield
    except OSError as error:
        raise DatasetError(f"{path} can't be read: {error.strerror}") from None
