"""A folder of photos → its classes, and the photos to train on, to validate on and to test on."""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

from build.errors import BuildError
from build.photos.class_names import classes_of
from build.photos.data import (
    SPLITS,
    Photo,
    PhotoSet,
    holds_folders,
    is_held_out,
    labelled_photos,
    refuse_overlap,
)
from build.photos.readable import readable
from service.bundle.folder import Classes, composed
from service.bundle.manifest import Preprocessing
from service.errors import nearest
from service.host.output import write_whole
from service.measuring.labelled import class_folders, refuse_two_labels

TESTED_SHARE = 5
LEAST_PHOTOS = 5
_MOST_DRAWN = 3


@dataclass(frozen=True)
class Splits:
    """Labelled photos of the same classes, with no image in two sets.

    `train` is for training and calibration, `val` for measuring losses during training, `test` only for the
    accuracy that is reported.
    """

    classes: Classes
    train: PhotoSet
    val: PhotoSet
    test: PhotoSet


def split_folder(folder: Path, preprocessing: Preprocessing, *, skip_corrupt: bool = False) -> Splits:
    """Split a folder that holds `train`, `val` and `test`, some of these, or the class folders themselves.

    Without `test`, `val` is the test set; without both, one photo in five is. Without a separate `val`,
    one training photo in twenty is. Photos are drawn class by class, by their content: the same ones on
    every machine and with any file names. An image that is in a class twice counts once.

    Every file is read, hashed and decoded once, with `preprocessing`; `skip_corrupt` leaves out those that
    can't be decoded, and says so on standard error.

    Raises:
        BuildError: the folders are not such splits; there are fewer than two classes; a class is only in
            `val` or `test`, or has too few photos; an image is in two splits.
        DatasetError: a folder can't be read, is empty or holds folders; an image is in two classes, or can't
            be read and is not to be skipped; or a class has none that can be read.
    """
    parts = _parts(folder)
    classes = classes_of(class_folders(parts["train"]))
    _refuse_strange_classes(parts)
    sets = {name: labelled_photos(path, classes) for name, path in parts.items()}
    checked = readable(list(sets.values()), preprocessing, skip_corrupt=skip_corrupt)
    sets = dict(zip(sets, checked, strict=True))
    _refuse_shared_images(sets)
    if "test" not in sets:
        _refuse_small_classes(sets["train"])
        sets["test"], sets["train"] = _draw(sets["train"], is_tested_on, "test")
    if "val" not in sets:
        sets["val"], sets["train"] = _draw(sets["train"], is_held_out, "val")
    return Splits(classes, sets["train"], sets["val"], sets["test"])


def write_splits(splits: Splits, folder: Path) -> Path:
    """Write `splits.csv` to `folder`, which lists each photo's set, label, path and SHA-256; return its path.

    Raises:
        OSError: it can't be written.
    """
    lines = StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(["set", "label", "path", "sha256"])
    for name, photo_set in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        for image in photo_set.images:
            rows.writerow([name, splits.classes.labels[image.index], image.path, image.sha256])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "splits.csv"
    write_whole(path, lines.getvalue().encode("utf-8", "surrogateescape"))
    return path


def is_tested_on(photo: Photo) -> bool:
    """Return whether a photo is for testing if no folder says so: one in five, by its content."""
    # Other digits than those of `is_held_out`, so that the two are independent.
    return int(photo.sha256[8:16], 16) % TESTED_SHARE == 0


def _parts(folder: Path) -> dict[str, Path]:
    """Return the existing split folders by purpose; `train` is the folder itself if there are none."""
    inside = class_folders(folder)
    there = {name: folder / name for name in SPLITS if holds_folders(folder / name)}
    if not there and all(map(_holds_folders_alone, inside)):
        raise BuildError(
            f"{folder} holds folders of folders, first {inside[0].name}: name its splits train, val and test"
        )
    if not there:
        return {"train": folder}
    if "train" not in there:
        raise BuildError(f"{folder} has {' and '.join(there)}, but no train with one folder per class")
    for path in class_folders(folder):
        if path.name not in there:
            raise BuildError(f"{path} is next to {there['train']}, but is not train, val or test; move it")
    if "test" not in there and "val" in there:
        there["test"] = there.pop("val")
    return there


def _holds_folders_alone(path: Path) -> bool:
    return holds_folders(path) and all(inside.is_dir() or inside.name[0] == "." for inside in path.iterdir())


def _refuse_strange_classes(parts: Mapping[str, Path]) -> None:
    trained = {composed(path.name) for path in class_folders(parts["train"])}
    for path in (path for part in parts.values() for path in class_folders(part)):
        if composed(path.name) not in trained:
            near = nearest(composed(path.name), sorted(trained))
            suggested = f"; the nearest one there is {near!r}" if near else ""
            raise BuildError(
                f"{path} is a class that {parts['train']} lacks{suggested}: use the same name in both, or"
                " move it away"
            )


def _refuse_shared_images(sets: Mapping[str, PhotoSet]) -> None:
    for number, name in enumerate(sets):
        refuse_two_labels(sets[name].images)
        refuse_overlap(list(sets.values())[:number], sets[name])


def _refuse_small_classes(photo_set: PhotoSet) -> None:
    for photos in _by_class(photo_set.photos):
        if len(photos) < LEAST_PHOTOS:
            raise BuildError(
                f"{photos[0].path.parent} has too few images to draw some for test: {len(photos)} different"
                f" ones, but {LEAST_PHOTOS} are needed"
            )


def _draw(photo_set: PhotoSet, wanted: Callable[[Photo], bool], purpose: str) -> tuple[PhotoSet, PhotoSet]:
    """Return the wanted photos and the rest, drawn class by class by their content.

    From a class of three or more, at least one is drawn, and at most a third.
    """
    drawn: set[Photo] = set()
    for photos in _by_class(photo_set.photos):
        first = sorted(photos, key=lambda photo: (not wanted(photo), photo.sha256))
        drawn.update(first[: min(max(1, sum(map(wanted, photos))), len(photos) // _MOST_DRAWN)])
    if not drawn:
        raise BuildError(f"{photo_set.name} has too few images to draw any for {purpose}: no class has three")
    taken = tuple(photo for photo in photo_set.photos if photo in drawn)
    rest = tuple(photo for photo in photo_set.photos if photo not in drawn)
    return PhotoSet(f"{photo_set.name} ({purpose})", taken), replace(photo_set, photos=rest)


def _by_class(photos: Iterable[Photo]) -> Iterable[list[Photo]]:
    classes: defaultdict[int | None, list[Photo]] = defaultdict(list)
    for photo in photos:
        classes[photo.label].append(photo)
    return classes.values()
