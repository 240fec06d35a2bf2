import csv
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from build.errors import BuildError
from build.network.weights import default_preprocessing
from build.photos.data import Photo, PhotoSet, is_held_out
from build.photos.splits import Splits, is_tested_on, split_folder, write_splits
from service.bundle.folder import Classes
from service.errors import DatasetError
from service.measuring.labelled import labelled_images
from tests.build.conftest import CLASSES, SIZE

PREPROCESSING = default_preprocessing(SIZE)


def split(folder: Path, *, skip_corrupt: bool = False) -> Splits:
    return split_folder(folder, PREPROCESSING, skip_corrupt=skip_corrupt)


def files(photo_set: PhotoSet, folder: Path) -> set[str]:
    return {str(photo.path.relative_to(folder)) for photo in photo_set.photos}


def digests(photo_set: PhotoSet) -> set[str]:
    return {photo.sha256 for photo in photo_set.photos}


def counts(photo_set: PhotoSet) -> Counter[int | None]:
    return Counter(photo.label for photo in photo_set.photos)


@pytest.fixture
def mine(training_folder: Path, tmp_path: Path) -> Path:
    """A folder without splits: one folder per class, of 30 photos each."""
    return Path(shutil.copytree(training_folder, tmp_path / "mine"))


@pytest.fixture
def shop(training_folder: Path, calibration: Path, evaluation: Path, tmp_path: Path) -> Path:
    """A folder with all three splits, in which val lacks a class."""
    folder = tmp_path / "shop"
    for name, photos in (("train", training_folder), ("val", calibration), ("test", evaluation)):
        shutil.copytree(photos, folder / name)
    shutil.rmtree(folder / "val" / "temple")
    (folder / "LICENSE").touch()
    (folder / ".cache").mkdir()
    return folder


def test_existing_splits_are_used(shop: Path) -> None:
    splits = split(shop)
    assert splits.classes == Classes(CLASSES, None)
    assert [s.name for s in (splits.train, splits.val, splits.test)] == [
        "shop/train",
        "shop/val",
        "shop/test",
    ]
    assert counts(splits.train) == dict.fromkeys(range(4), 30)
    assert counts(splits.val) == dict.fromkeys(range(3), 12)
    assert counts(splits.test) == dict.fromkeys(range(4), 4)
    # The photos to test on are those that `evaluate` finds in that folder.
    assert splits.test.images == labelled_images(shop / "test", splits.classes)


@pytest.mark.parametrize("left_out", ["val", "test"])
def test_a_missing_val_or_test_split_is_replaced(shop: Path, left_out: str) -> None:
    """Val serves as test if there is no test, and photos held out of train serve as val."""
    shutil.rmtree(shop / left_out)
    splits = split(shop)
    (tested,) = {"val", "test"} - {left_out}
    assert splits.test.name == f"shop/{tested}"
    assert files(splits.test, shop) == {str(p.relative_to(shop)) for p in (shop / tested).rglob("*.jpg")}
    assert splits.val.name == "shop/train (val)"
    assert len(splits.train.photos) + len(splits.val.photos) == 30 * len(CLASSES)
    held_out = {photo for photo in (*splits.train.photos, *splits.val.photos) if is_held_out(photo)}
    assert held_out
    assert held_out <= set(splits.val.photos)
    assert set(counts(splits.val)) == set(range(4))


def test_a_folder_without_splits_is_split_by_content(mine: Path) -> None:
    splits = split(mine)
    sets = (splits.train, splits.val, splits.test)
    assert [s.name for s in sets] == ["mine", "mine (val)", "mine (test)"]
    assert sum(len(s.photos) for s in sets) == 30 * len(CLASSES)
    assert len(set().union(*map(digests, sets))) == 30 * len(CLASSES)
    for photo_set, least, most in zip(sets, (15, 1, 1), (28, 6, 10), strict=True):
        assert set(counts(photo_set)) == set(range(4))
        assert all(least <= count <= most for count in counts(photo_set).values())


def test_the_split_does_not_depend_on_names_or_order(mine: Path) -> None:
    before = split(mine)
    for number, path in enumerate(sorted(mine.rglob("*.jpg"), reverse=True)):
        path.rename(path.with_name(f"photo {number * 7919 % 1000:03d}.JPEG"))
    after = split(mine)
    for one, other in ((before.train, after.train), (before.val, after.val), (before.test, after.test)):
        assert digests(one) == digests(other)


def test_a_photo_stays_in_its_split_when_others_are_added(
    mine: Path, make_folder: Callable[[str, int, int], Path]
) -> None:
    before = split(mine)
    shutil.copytree(make_folder("more", 4, 8), mine, copy_function=with_another_name, dirs_exist_ok=True)
    after = split(mine)
    assert sum(counts(after.train).values()) > sum(counts(before.train).values())
    chosen = {photo.sha256 for photo in before.test.photos if is_tested_on(photo)}
    assert chosen
    assert chosen <= digests(after.test)
    assert not digests(before.train) & digests(after.test)


def with_another_name(source: str, target: str) -> None:
    shutil.copy(source, f"{target}.more.jpg")


def test_copies_of_a_photo_count_once(mine: Path) -> None:
    before = split(mine)
    for path in sorted((mine / "cat").iterdir()):
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    after = split(mine)
    assert digests(after.train) == digests(before.train)
    assert len(after.train.photos) == len(before.train.photos)


def test_one_photo_in_five_is_tested_on_independently_of_holding_out() -> None:
    photos = [Photo(Path(), f"{n * 11400714819323198485 % 2**64:016x}", None) for n in range(20_000)]
    tested = [photo for photo in photos if is_tested_on(photo)]
    assert 3800 < len(tested) < 4200
    assert 140 < sum(map(is_held_out, tested)) < 260


def test_a_class_may_be_named_train(mine: Path) -> None:
    (mine / "temple").rename(mine / "train")
    assert split(mine).classes.labels == ("cat", "coffee", "flower", "train")


def test_train_alone_is_split_too(mine: Path, tmp_path: Path) -> None:
    before = split(mine)
    (tmp_path / "alone").mkdir()
    mine.rename(tmp_path / "alone" / "train")
    splits = split(tmp_path / "alone")
    assert splits.test.name == "alone/train (test)"
    assert digests(splits.test) == digests(before.test)


def test_damaged_photos_are_an_error_or_left_out(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Two empty files in two classes must not be reported as one image with two labels.
    (mine / "cat" / "a.jpg").touch()
    (mine / "temple" / "b.jpg").touch()
    with pytest.raises(DatasetError, match=r"1 of 121 images can't be read, first .*cat/a\.jpg: "):
        split(mine)
    splits = split(mine, skip_corrupt=True)
    assert sum(len(s.photos) for s in (splits.train, splits.val, splits.test)) == 30 * len(CLASSES)
    assert "edgewise: 1 of 121 images can't be read and are left out" in capsys.readouterr().err


def test_a_class_with_too_few_photos_is_named(mine: Path) -> None:
    for path in sorted((mine / "flower").iterdir())[4:]:
        path.unlink()
    with pytest.raises(BuildError, match=r"mine/flower has too few images to draw some for test: 4 "):
        split(mine)
    shutil.copy(mine / "flower" / "0.jpg", mine / "flower" / "copy.jpg")
    with pytest.raises(BuildError, match="4 different ones, but 5 are needed"):
        split(mine)


def test_five_photos_are_enough(mine: Path) -> None:
    for path in sorted((mine / "flower").iterdir())[5:]:
        path.unlink()
    splits = split(mine)
    assert [counts(s)[2] for s in (splits.train, splits.val, splits.test)] == [3, 1, 1]


def test_too_few_photos_to_hold_any_out_are_refused(shop: Path) -> None:
    shutil.rmtree(shop / "val")
    for folder in (shop / "train").iterdir():
        for path in sorted(folder.iterdir())[2:]:
            path.unlink()
    with pytest.raises(BuildError, match="shop/train has too few images to draw any for val"):
        split(shop)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (
            "train/cat/3.jpg",
            "test/cat/hidden.jpg",
            r"^1 images of shop/test .*test/cat/hidden.*, there .*train/",
        ),
        ("train/cat/3.jpg", "val/coffee/hidden.jpg", r"^1 images of shop/val .*val/coffee/hidden"),
        ("val/cat/3.jpg", "test/temple/hidden.jpg", r"^1 images of shop/test .*, there .*val/cat/3\.jpg"),
    ],
)
def test_an_image_in_two_splits_is_refused(shop: Path, source: str, target: str, message: str) -> None:
    shutil.copy(shop / source, shop / target)
    with pytest.raises(BuildError, match=message):
        split(shop)


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_an_image_of_two_classes_is_refused(shop: Path, part: str) -> None:
    shutil.copy(shop / part / "cat" / "0.jpg", shop / part / "flower" / "copy.jpg")
    with pytest.raises(DatasetError, match=rf"{part}/cat/0\.jpg and .*{part}/flower/copy\.jpg are the same"):
        split(shop)


def rename(folder: Path, name: str, other: str) -> None:
    (folder / name).rename(folder / other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda shop: rename(shop, "test/cat", "test/dog"),
            "test/dog is a class that .*train lacks: use the same name in both",
        ),
        (lambda shop: rename(shop, "val/coffee", "val/cofee"), "the nearest one there is 'coffee'"),
        (lambda shop: rename(shop, "train", ".train"), "shop has val and test, but no train with one folder"),
        (
            lambda shop: rename(shop, "val", "valid"),
            "valid is next to .*train, but is not train, val or test",
        ),
        (lambda shop: (shop / "train" / "dog").mkdir(), "train/dog is empty"),
        (lambda shop: (shop / "train" / "cat" / "more").mkdir(), "more is a folder within a class's folder"),
        (lambda shop: shutil.rmtree(shop), "shop can't be read: No such file or directory"),
    ],
)
def test_folders_with_invalid_splits_are_refused(
    shop: Path, change: Callable[[Path], None], message: str
) -> None:
    change(shop)
    with pytest.raises((BuildError, DatasetError), match=message):
        split(shop)


def test_splits_with_other_names_are_refused(shop: Path) -> None:
    for name, other in (("train", "Train"), ("val", "Validation"), ("test", "Test")):
        (shop / name).rename(shop / other)
    with pytest.raises(BuildError, match="holds folders of folders, first Test: name its splits train, val"):
        split(shop)


def test_a_folder_inside_the_folder_of_a_class_is_refused(shop: Path) -> None:
    (shop / "train" / "cat" / "more").mkdir()
    with pytest.raises(DatasetError, match="cat/more is a folder within a class's folder"):
        split(shop / "train")


def test_class_names_in_different_unicode_forms_are_the_same_class(shop: Path) -> None:
    (shop / "train" / "cat").rename(shop / "train" / "Caf\u00e9")
    for part in ("val", "test"):
        (shop / part / "cat").rename(shop / part / "Cafe\u0301")
    splits = split(shop)
    assert "Caf\u00e9" in splits.classes.labels
    assert len(splits.classes.labels) == len(CLASSES)


def test_one_class_name_in_two_unicode_forms_in_one_folder_is_refused(mine: Path) -> None:
    (mine / "cat").rename(mine / "Caf\u00e9")
    (mine / "coffee").rename(mine / "Cafe\u0301")
    with pytest.raises(BuildError, match="the same name in two Unicode forms; put their images together"):
        split(mine)


def test_one_class_is_too_few(mine: Path) -> None:
    for name in CLASSES[1:]:
        shutil.rmtree(mine / name)
    with pytest.raises(BuildError, match="mine/cat is the only class"):
        split(mine)


def test_the_splits_of_the_grocery_photos_are_used(shared: Path) -> None:
    folder = shared / "images" / "grocery"
    splits = split(folder)
    assert (len(splits.classes.labels), splits.classes.labels[7]) == (81, "Kiwi")
    sizes = [len(s.photos) for s in (splits.train, splits.val, splits.test)]
    assert sizes == [2640, 296, 2485]
    assert splits.test.images == labelled_images(folder / "test", splits.classes)


def test_the_written_list_has_the_set_of_each_photo(training_folder: Path, tmp_path: Path) -> None:
    splits = split(training_folder)
    with write_splits(splits, tmp_path / "run").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name, photo_set in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        expected = {(str(photo.path), photo.sha256, photo.path.parent.name) for photo in photo_set.photos}
        assert {(r["path"], r["sha256"], r["label"]) for r in rows if r["set"] == name} == expected
        assert expected
