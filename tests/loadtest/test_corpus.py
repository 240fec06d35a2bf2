from collections import Counter
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pytest

from loadtest.corpus import DEFAULT_PHOTOS, ClassName, Photo, Queue, label, read_files
from loadtest.errors import LoadTestError
from service.bundle.folder import Bundle
from service.measuring.labelled import labelled_images

CLASSES = [ClassName(0, "n1", "crane"), ClassName(1, "n2", "crane"), ClassName(2, "n3", "kiwi")]
PHOTOS = [Photo(Path(f"{number}.jpg"), 0) for number in range(5)]


def folder(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name / "a.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"photo")
    return root


@pytest.mark.parametrize(
    ("name", "index"), [("n1", 0), ("n3", 2), ("kiwi", 2), ("0007_n2", 1), ("1_kiwi", 2)]
)
def test_a_folder_is_named_by_its_class(tmp_path: Path, name: str, index: int) -> None:
    (photo,) = label(read_files(folder(tmp_path, name)), CLASSES)
    assert (photo.label, photo.path) == (index, tmp_path / name / "a.jpg")


@pytest.mark.parametrize("name", ["crane", "n9", "2"])
def test_a_name_that_tells_no_class_is_refused(tmp_path: Path, name: str) -> None:
    files = read_files(folder(tmp_path, name))
    with pytest.raises(LoadTestError, match=f"{name} is named after no class.* such as 'kiwi'"):
        label(files, CLASSES)


def test_without_class_ids_an_index_is_a_name(tmp_path: Path) -> None:
    classes = [ClassName(0, None, "apple"), ClassName(1, None, "pear")]
    files = read_files(folder(tmp_path, "1", "001", "apple"))
    assert [photo.label for photo in label(files, classes)] == [1, 1, 0]


def test_what_is_expected_is_told_even_if_no_label_names_a_class(tmp_path: Path) -> None:
    classes = [ClassName(0, None, "pear"), ClassName(1, None, "pear")]
    files = read_files(folder(tmp_path, "pear"))
    with pytest.raises(LoadTestError, match=r"pear is named after no class .*: expected an index up to 1$"):
        label(files, classes)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_an_accent_is_one_in_each_form_of_unicode(tmp_path: Path, form: Literal["NFC", "NFD"]) -> None:
    files = read_files(folder(tmp_path, normalize(form, "1_Café")))
    others: list[Literal["NFC", "NFD"]] = ["NFC", "NFD"]
    for other in others:
        classes = [ClassName(0, None, "Thé"), ClassName(1, None, normalize(other, "Café"))]
        assert [photo.label for photo in label(files, classes)] == [1]


@pytest.mark.parametrize("names", [[], [".hidden"]])
def test_a_folder_without_photos_is_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(LoadTestError, match="one folder per class"):
        read_files(folder(tmp_path, *names))
    with pytest.raises(LoadTestError, match="can't be read: No such file"):
        read_files(tmp_path / "absent")


def test_photos_are_labelled_as_evaluation_labels_them(default_bundle: Bundle, shared: Path) -> None:
    classes = default_bundle.classes
    names = [
        ClassName(index, class_id, text)
        for index, (class_id, text) in enumerate(zip(classes.class_ids or (), classes.labels, strict=True))
    ]
    root = shared / "images" / "imagenet-val"
    expected = [(image.path, image.index) for image in labelled_images(root, classes)]
    assert [(photo.path, photo.label) for photo in label(read_files(root), names)] == expected


def test_the_photos_that_come_along_are_of_the_default_bundles_classes(default_bundle: Bundle) -> None:
    images = labelled_images(DEFAULT_PHOTOS, default_bundle.classes)
    texts = [default_bundle.classes.labels[image.index] for image in images]
    assert texts == ["tabby, tabby cat", "tripod", "espresso"]


def test_each_photo_is_sent_as_often_as_the_others() -> None:
    queue = Queue(PHOTOS, passes=2)
    taken = [queue.take() for _ in range(10)]
    assert Counter(taken) == dict.fromkeys(PHOTOS, 2)
    assert queue.take() is None
    assert [queue.done() for _ in range(10)] == [*[False] * 9, True]


def test_what_is_given_back_is_next() -> None:
    queue = Queue(PHOTOS, passes=1)
    first = queue.take()
    assert first is not None
    queue.give_back(first)
    assert queue.take() is first
    assert [queue.take() is None for _ in range(5)] == [*[False] * 4, True]


def test_without_a_number_of_passes_there_is_always_another() -> None:
    queue = Queue(PHOTOS)
    assert all(queue.take() and not queue.done() for _ in range(100))


def test_no_more_photos_are_skipped_than_there_are() -> None:
    queue = Queue(PHOTOS, passes=2)
    first = queue.take()
    assert first is not None
    queue.give_back(first)
    assert [queue.skip(count) for count in (0, 4, 7, 1)] == [0, 4, 6, 0]
    assert Queue(PHOTOS).skip(1000) == 1000
