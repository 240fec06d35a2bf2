"""Image folders to train and calibrate on."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from build.errors import BuildError
from build.files import in_utf8
from service.bundle.folder import SEEN_DIGITS, Classes, sha256_of
from service.bundle.manifest import ImageSet
from service.errors import DatasetError
from service.measuring.labelled import LabelledImage, class_folders, image_set, labelled_images

HELD_OUT_SHARE = 20
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Photo:
    """An image file, the SHA-256 of its bytes, and its class index if known."""

    path: Path
    sha256: str
    label: int | None

    @property
    def seen_key(self) -> str:
        """What a bundle's list of seen images knows it by: the first digits of its SHA-256."""
        return self.sha256[:SEEN_DIGITS]


@dataclass(frozen=True)
class PhotoSet:
    """The photos of one folder; `name` is the folder's."""

    name: str
    photos: tuple[Photo, ...]

    @property
    def images(self) -> list[LabelledImage]:
        """The photos whose class is known, in the form that evaluations take."""
        return [LabelledImage(p.path, p.label, p.sha256) for p in self.photos if p.label is not None]

    @property
    def image_set(self) -> ImageSet:
        """All of them as a manifest records them; there must be one."""
        return image_set(self.name, [photo.sha256 for photo in self.photos])


def labelled_photos(folder: Path, classes: Classes) -> PhotoSet:
    """Return the photos of a folder with one folder per class.

    Raises:
        DatasetError: a folder matches no class or is empty, or an image is in two classes.
    """
    images = labelled_images(folder, classes)
    return PhotoSet(set_name(folder), tuple(Photo(image.path, image.sha256, image.index) for image in images))


def training_photos(folder: Path, classes: Classes) -> PhotoSet:
    """Return the photos of a folder with one folder per class, or of its `train` folder if it has one.

    Raises:
        DatasetError: a folder matches no class or is empty, or an image is in two classes.
    """
    return replace(labelled_photos(training_folder(folder), classes), name=set_name(folder))


def unlabelled_photos(folder: Path) -> PhotoSet:
    """Return every file below a folder, whatever the folders' names, except hidden files and folders.

    Raises:
        BuildError: there are no files.
    """
    return PhotoSet(set_name(folder), tuple(Photo(path, sha256_of(path), None) for path in _files(folder)))


def sample(folder: Path, most: int, known: Iterable[PhotoSet] = ()) -> PhotoSet:
    """Return at most `most` photos of a folder, or of its `train` folder if it has one, none twice.

    They are drawn at random, the same ones each time; copies are replaced by others. Photos in `known` are
    not hashed again.

    Raises:
        BuildError: there are no photos.
    """
    paths = _files(training_folder(folder))
    drawn = random.Random(0).sample(paths, min(most, len(paths)))  # noqa: S311
    others = sorted({*paths}.difference(drawn))
    random.Random(0).shuffle(others)  # noqa: S311
    digests = {photo.path: photo.sha256 for photo_set in known for photo in photo_set.photos}
    photos: dict[str, Photo] = {}
    for path in chain(drawn, others):
        if len(photos) == most:
            break
        digest = digests.get(path) or sha256_of(path)
        photos.setdefault(digest, Photo(path, digest, None))
    return PhotoSet(set_name(folder), tuple(photos.values()))


def draw(photo_set: PhotoSet, most: int) -> PhotoSet:
    """Return at most `most` photos of a set, drawn at random, the same ones each time, and none twice."""
    photos = sorted(without_repeats([photo_set]), key=lambda photo: photo.sha256)
    drawn = random.Random(0).sample(photos, min(most, len(photos)))  # noqa: S311
    return replace(photo_set, photos=tuple(drawn))


def set_name(folder: Path) -> str:
    """Return the folder's name; the name of a split, which says little alone, follows its parent's."""
    path = folder.resolve()
    return in_utf8(f"{path.parent.name}/{path.name}" if path.name in SPLITS else path.name)


def without_repeats(sets: Iterable[PhotoSet]) -> list[Photo]:
    """Return the photos of all sets without repeated content, so that none counts twice."""
    first: dict[str, Photo] = {}
    for photo in chain.from_iterable(photo_set.photos for photo_set in sets):
        first.setdefault(photo.sha256, photo)
    return list(first.values())


def seen_keys(photos: Iterable[Photo]) -> frozenset[str]:
    """Return what a bundle's list of seen images knows the photos by."""
    return frozenset(photo.seen_key for photo in photos)


def refuse_overlap(
    sets: Iterable[PhotoSet], evaluation: PhotoSet, seen_images: frozenset[str] = frozenset()
) -> None:
    """Refuse to train or calibrate on photos that the evaluation uses, by their content.

    `seen_images`: the `seen_keys` of the photos that the network, or a search, has seen before.

    Raises:
        BuildError: there are such photos; the message says how many, and names the first.
    """
    known = {photo.sha256: photo.path for photo in without_repeats(sets)}
    shared = [photo for photo in evaluation.photos if photo.sha256 in known]
    if shared:
        raise BuildError(
            f"{len(shared)} images of {evaluation.name} are among those to train, calibrate or choose on, the"
            f" first {shared[0].path}, there {known[shared[0].sha256]}: accuracy on them says nothing about"
            " new images; remove them from one of the two"
        )
    seen = [photo.path for photo in evaluation.photos if photo.seen_key in seen_images]
    if seen:
        raise BuildError(
            f"{len(seen)} images of {evaluation.name} are among those that the weights or a recipe come from,"
            f" the first {seen[0]}: accuracy on them says nothing about new images; remove them, start from"
            " other weights (--weights), or mark the result with --allow-seen"
        )


def is_held_out(photo: Photo) -> bool:
    """Return whether a photo is held out of training to measure losses: one in twenty, by its content."""
    return int(photo.sha256[:8], 16) % HELD_OUT_SHARE == 0


def training_folder(folder: Path) -> Path:
    """Return the `train` folder of a folder with splits, else the folder itself: `train` may be a class."""
    train = folder / "train"
    if not train.is_dir():
        return folder
    if holds_folders(train) or {path.name for path in class_folders(folder)} <= {*SPLITS}:
        return train
    return folder


def holds_folders(path: Path) -> bool:
    """Return whether a folder holds folders; one named `train` that does not may be a class of trains."""
    try:
        return bool(class_folders(path))
    except DatasetError:
        return False


def _files(folder: Path) -> list[Path]:
    """Return every file below a folder except hidden ones, following linked folders, as for class folders.

    Raises:
        BuildError: there are no files, or a link is broken or leads back to a folder that it is in.
        OSError: a folder can't be read.
    """
    paths = sorted(_below(folder, ()))
    if not paths:
        raise BuildError(f"{folder} holds no images")
    return paths


def _below(folder: Path, around: tuple[Path, ...]) -> Iterator[Path]:
    around = (*around, folder.resolve())
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if path.resolve() in around:
                raise BuildError(f"{path} is a link to a folder that it is in; remove it")
            yield from _below(path, around)
        elif path.is_file():
            yield path
        else:
            raise BuildError(f"{path} is not a file, or is a broken link; remove it")
