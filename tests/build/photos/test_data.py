import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from build.errors import BuildError
from build.photos.data import (
    Photo,
    PhotoSet,
    draw,
    is_held_out,
    labelled_photos,
    refuse_overlap,
    sample,
    set_name,
    training_folder,
    training_photos,
    unlabelled_photos,
    without_repeats,
)
from service.bundle.folder import Classes
from tests.build.conftest import CLASSES

MakeFolder = Callable[[str, int, int], Path]


def test_labelled_photos_know_their_class(calibration: Path) -> None:
    photos = labelled_photos(calibration, Classes(CLASSES, None))
    assert photos.name == "calibration"
    assert len(photos.photos) == 12 * len(CLASSES)
    assert all(photo.label == CLASSES.index(photo.path.parent.name) for photo in photos.photos)


def test_training_photos_are_the_train_split_of_a_folder_with_splits(
    calibration: Path, tmp_path: Path
) -> None:
    shutil.copytree(calibration, tmp_path / "train")
    shutil.copytree(calibration / "cat", tmp_path / "val" / "cat")
    assert len(training_photos(tmp_path, Classes(CLASSES, None)).photos) == 12 * len(CLASSES)


def test_a_split_is_named_with_its_parent(calibration: Path, tmp_path: Path) -> None:
    shutil.copytree(calibration, tmp_path / "shop" / "train")
    assert unlabelled_photos(tmp_path / "shop" / "train").name == "shop/train"


def test_a_sample_is_the_same_each_time_and_has_no_repeats(calibration: Path) -> None:
    drawn = sample(calibration, 10)
    assert drawn == sample(calibration, 10)
    assert len({photo.path for photo in drawn.photos}) == 10
    assert len(sample(calibration, 1000).photos) == 12 * len(CLASSES)


def test_a_sample_takes_other_photos_in_place_of_copies(calibration: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for folder in ("a", "b", "c"):
        shutil.copytree(calibration, photos / folder)
    distinct = 12 * len(CLASSES)
    for most, expected in ((distinct - 8, distinct - 8), (1000, distinct)):
        digests = [photo.sha256 for photo in sample(photos, most).photos]
        assert len(digests) == len(set(digests)) == expected
    assert len(draw(unlabelled_photos(photos), 1000).photos) == distinct


def test_a_sample_reuses_digests_that_are_known(calibration: Path) -> None:
    photos = unlabelled_photos(calibration).photos
    known = PhotoSet("known", tuple(replace(photo, sha256=f"{n:064}") for n, photo in enumerate(photos[:30])))
    drawn = sample(calibration, 1000, [known]).photos
    given = [photo for photo in drawn if photo.sha256.startswith("0" * 60)]
    assert {(photo.path, photo.sha256) for photo in given} == {(p.path, p.sha256) for p in known.photos}
    assert set(drawn).difference(given) == set(photos[30:])


def test_the_same_content_counts_once(calibration: Path, tmp_path: Path) -> None:
    first = unlabelled_photos(calibration).photos[0]
    shutil.copy(first.path, tmp_path / "another name.jpg")
    photos = without_repeats([unlabelled_photos(calibration), unlabelled_photos(tmp_path)])
    assert len(photos) == 12 * len(CLASSES)


def test_a_photo_keeps_its_label_if_an_unlabelled_copy_follows(calibration: Path) -> None:
    labelled = labelled_photos(calibration, Classes(CLASSES, None))
    photos = without_repeats([labelled, unlabelled_photos(calibration)])
    assert all(photo.label is not None for photo in photos)


def test_a_renamed_evaluation_image_is_found(calibration: Path, evaluation: Path, tmp_path: Path) -> None:
    held_back = labelled_photos(evaluation, Classes(CLASSES, None))
    refuse_overlap([unlabelled_photos(calibration)], held_back)
    hidden = tmp_path / "holiday.jpg"
    shutil.copy(evaluation / "cat" / "0.jpg", hidden)
    with pytest.raises(
        BuildError, match=r"^1 images of evaluation are among .*cat/0\.jpg, there .*holiday\.jpg"
    ):
        refuse_overlap([unlabelled_photos(calibration), unlabelled_photos(tmp_path)], held_back)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="holds no images"):
        unlabelled_photos(tmp_path)


def test_about_one_photo_in_twenty_is_held_out() -> None:
    photos = PhotoSet("", tuple(Photo(Path(), f"{n * 2654435761 % 2**32:08x}", None) for n in range(10_000)))
    assert 400 < sum(map(is_held_out, photos.photos)) < 600


def test_linked_folders_are_followed_and_bad_links_are_named(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.jpg").write_bytes(b"1")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "linked").symlink_to(tmp_path / "elsewhere")
    assert [photo.path for photo in unlabelled_photos(photos).photos] == [photos / "linked" / "1.jpg"]
    assert [photo.path for photo in sample(photos, 5).photos] == [photos / "linked" / "1.jpg"]
    for name, target in (("gone.jpg", "nowhere"), ("round", ".")):
        (photos / name).symlink_to(target)
        with pytest.raises(BuildError, match=rf"{name} is "):
            unlabelled_photos(photos)
        (photos / name).unlink()


def test_a_set_is_named_in_utf8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"photos\xff")
    folder.mkdir()
    assert set_name(folder) == "photos\ufffd"


@pytest.mark.parametrize(
    ("folders", "taken"),
    [
        (("train/cat", "test/cat"), "train"),
        (("train/cat", "others"), "train"),
        (("train", "val"), "train"),
        (("train", "bus", "car"), ""),
        (("cat", "dog"), ""),
    ],
    ids=["splits", "beside another folder", "without classes", "class named train", "no train folder"],
)
def test_a_train_split_is_told_apart_from_a_class_named_train(
    tmp_path: Path, folders: tuple[str, ...], taken: str
) -> None:
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
    assert training_folder(tmp_path) == tmp_path / taken
