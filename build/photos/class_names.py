"""The classes that class folders stand for, by their names."""

import re
from collections.abc import Sequence
from pathlib import Path

from build.errors import BuildError
from build.network.classes import IMAGENET, read_lines
from service.bundle.folder import Classes, composed
from service.measuring.labelled import numbered

LEAST_CLASSES = 2
_WORDNET_ID = re.compile("n[0-9]{8}")


def classes_of(folders: Sequence[Path]) -> Classes:
    """Return the classes for which `labelled_images` finds these folders, one for each.

    WordNet ids, with or without a leading number (`0281_n02123045`), become class ids, in their own order;
    their labels are ImageNet's if it has all of them, otherwise the ids themselves. Names numbered from 0
    or 1 without a gap (`07_Kiwi`) are in the numbers' order, with labels that leave out the numbers. All
    other names are the labels: whole numbers in numeric order, others in character order.

    Raises:
        BuildError: there are fewer than two folders, two have the same WordNet id or the same name in two
            Unicode forms, or a name can't be a line of text.
    """
    if len(folders) < LEAST_CLASSES:
        raise BuildError(
            f"{folders[0]} is the only class; at least {LEAST_CLASSES} are needed, with a folder each"
        )
    _refuse_one_name(folders)
    for folder in folders:
        if not _is_a_line(folder.name):
            raise BuildError(f"{str(folder)!r} can't be a label: it must be one line of UTF-8; rename it")
    names = [composed(folder.name) for folder in folders]
    if all(_WORDNET_ID.fullmatch(numbered(name)[1]) for name in names):
        return _wordnet_classes(folders)
    return Classes(_in_order(names), None)


def _refuse_one_name(folders: Sequence[Path]) -> None:
    owners: dict[str, Path] = {}
    for folder in folders:
        first = owners.setdefault(composed(folder.name), folder)
        if first != folder:
            raise BuildError(
                f"{first} and {folder} have the same name in two Unicode forms; put their images together"
            )


def _wordnet_classes(folders: Sequence[Path]) -> Classes:
    owners: dict[str, Path] = {}
    for folder in folders:
        class_id = numbered(folder.name)[1]
        first = owners.setdefault(class_id, folder)
        if first != folder:
            raise BuildError(f"{first} and {folder} are the same class; put their images together")
    class_ids = tuple(sorted(owners))
    ids, labels = (read_lines(IMAGENET / file) for file in ("class_ids.txt", "labels.txt"))
    known = dict(zip(ids, labels, strict=True))
    if all(class_id in known for class_id in class_ids):
        return Classes(tuple(known[class_id] for class_id in class_ids), class_ids)
    return Classes(class_ids, class_ids)


def _in_order(names: Sequence[str]) -> tuple[str, ...]:
    if all(re.fullmatch("[0-9]+", name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    labels = {number: label for number, label in map(numbered, names) if number is not None}
    numbers = sorted(labels)
    distinct = len(labels) == len(set(labels.values())) == len(names)
    if distinct and numbers in (list(range(len(names))), list(range(1, len(names) + 1))):
        return tuple(labels[number] for number in numbers)
    return tuple(sorted(names))


def _is_a_line(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return name.splitlines() == [name]
