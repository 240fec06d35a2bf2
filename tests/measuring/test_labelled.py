import hashlib
import os
import re
from pathlib import Path

import pytest

from service.bundle.folder import Classes
from service.errors import DatasetError
from service.measuring.labelled import image_set, labelled_images, refuse_two_labels
from tests.rights import as_an_ordinary_user

WITH_IDS = Classes(
    labels=("cat", "dog", "crane", "crane", "007"), class_ids=("n01", "n02", "n03", "n04", "n05")
)
WITHOUT_IDS = Classes(labels=("cat", "dog", "crane", "crane", "007"), class_ids=None)


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "image.png").write_bytes(name.encode())
    return root


@pytest.mark.parametrize(
    ("classes", "name", "index"),
    [
        (WITH_IDS, "n03", 2),
        (WITH_IDS, "0000_n03", 2),
        (WITH_IDS, "dog", 1),
        (WITH_IDS, "007", 4),
        (WITH_IDS, "07_dog", 1),
        (WITH_IDS, "1_007", 4),
        (WITHOUT_IDS, "dog", 1),
        (WITHOUT_IDS, "07_dog", 1),
        (WITHOUT_IDS, "1_007", 4),
        (WITHOUT_IDS, "3", 3),
        (WITHOUT_IDS, "0003", 3),
        (WITHOUT_IDS, "007", 4),
    ],
)
def test_a_folder_is_matched_to_its_class(tmp_path: Path, classes: Classes, name: str, index: int) -> None:
    (image,) = labelled_images(folder_of(tmp_path, name), classes)
    assert image.index == index
    assert image.path == tmp_path / name / "image.png"
    assert image.sha256 == hashlib.sha256(name.encode()).hexdigest()


@pytest.mark.parametrize("label", ["Caf\u00e9", "Cafe\u0301"])
@pytest.mark.parametrize("name", ["Caf\u00e9", "7_Cafe\u0301"])
def test_a_folder_from_a_mac_is_matched(tmp_path: Path, label: str, name: str) -> None:
    (image,) = labelled_images(folder_of(tmp_path, name), Classes(("cat", label), None))
    assert image.index == 1


@pytest.mark.parametrize(
    ("classes", "name"),
    [
        (WITH_IDS, "3"),
        (WITH_IDS, "crane"),
        (WITH_IDS, "x_n03"),
        (WITH_IDS, "0_n99"),
        (WITH_IDS, "Dog"),
        (WITHOUT_IDS, "5"),
        (WITHOUT_IDS, "-1"),
        (WITHOUT_IDS, "٣"),
        (WITHOUT_IDS, "crane"),
        (WITHOUT_IDS, "2_crane"),
        (WITHOUT_IDS, "0_3"),
        (WITHOUT_IDS, "0_"),
        (WITHOUT_IDS, "٣_dog"),
    ],
)
def test_a_folder_of_another_name_is_refused(tmp_path: Path, classes: Classes, name: str) -> None:
    with pytest.raises(DatasetError, match=re.escape(f"{tmp_path / name} is named after no class")):
        labelled_images(folder_of(tmp_path, "cat", name), classes)


def test_a_whole_label_takes_precedence_over_one_after_a_number(tmp_path: Path) -> None:
    images = labelled_images(folder_of(tmp_path, "1_dog", "dog"), Classes(("dog", "1_dog"), None))
    assert {image.path.parent.name: image.index for image in images} == {"dog": 0, "1_dog": 1}


@pytest.mark.parametrize(
    ("classes", "name", "expected"),
    [
        (WITHOUT_IDS, "3_dgo", "expected a label, optionally after a number (0_<label>), or an index"),
        (WITH_IDS, "DOGS", "expected a class id or a label, optionally after a number (0_<class id>)"),
    ],
)
def test_the_error_says_how_a_folder_could_be_named(
    tmp_path: Path, classes: Classes, name: str, expected: str
) -> None:
    with pytest.raises(DatasetError, match=re.escape(f"{expected}; the nearest is 'dog'")):
        labelled_images(folder_of(tmp_path, name), classes)


def test_no_class_is_suggested_that_the_name_is_not_like(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"or an index$"):
        labelled_images(folder_of(tmp_path, "kiwi"), WITHOUT_IDS)


def test_a_label_that_classes_share_is_not_suggested(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"or an index$"):
        labelled_images(folder_of(tmp_path, "cranes"), Classes(("crane", "crane"), None))


@pytest.mark.parametrize(("class_ids", "expected"), [(None, "0, 2"), (("n1", "n2", "n3"), "n1, n3")])
def test_the_error_names_the_classes_that_share_a_label(
    tmp_path: Path, class_ids: tuple[str, ...] | None, expected: str
) -> None:
    classes = Classes(("crane", "kite", "crane"), class_ids)
    with pytest.raises(DatasetError, match=f"expected one of {expected}, the classes that share the label"):
        labelled_images(folder_of(tmp_path, "1_crane"), classes)


def test_an_image_that_is_twice_in_a_class_counts_once(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat", "dog")
    (tmp_path / "cat" / "copy.png").write_bytes(b"cat")
    images = labelled_images(tmp_path, WITH_IDS)
    assert [image.path.name for image in images if image.index == 0] == ["copy.png"]
    refuse_two_labels(images)


def test_an_image_of_two_classes_is_named_twice(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat", "dog")
    (tmp_path / "dog" / "copy.png").write_bytes(b"cat")
    images = labelled_images(tmp_path, WITH_IDS)
    both = f"{tmp_path}/cat/image.png and {tmp_path}/dog/copy.png are the same image in the folders of two"
    with pytest.raises(DatasetError, match=re.escape(both)):
        refuse_two_labels(images)


def test_all_images_of_all_classes_come_in_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("dog/b.JPEG", "dog/a.png", "cat/z", "cat/.hidden", ".git/config", "LICENSE"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    images = labelled_images(tmp_path, WITH_IDS)
    found = [(str(image.path.relative_to(tmp_path)), image.index) for image in images]
    assert found == [("cat/z", 0), ("dog/a.png", 1), ("dog/b.JPEG", 1)]


def test_two_folders_of_one_class_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"n02 and .*dog are of the same class"):
        labelled_images(folder_of(tmp_path, "dog", "n02"), WITH_IDS)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / ".DS_Store").touch()
    with pytest.raises(DatasetError, match="dog is empty"):
        labelled_images(tmp_path, WITH_IDS)


@pytest.mark.parametrize("closed", ["photos", "photos/cat"])
def test_a_folder_that_can_be_listed_but_not_entered_is_named(open_path: Path, closed: str) -> None:
    folder_of(open_path / "photos", "cat")
    (open_path / closed).chmod(0o644)
    message = re.escape(f"{open_path / closed}") + "(/image.png)? can't be read: Permission denied$"
    with as_an_ordinary_user(), pytest.raises(DatasetError, match=message):
        labelled_images(open_path / "photos", WITH_IDS)
    (open_path / closed).chmod(0o755)


def test_a_folder_in_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cat/more is a folder within"):
        labelled_images(folder_of(tmp_path, "cat", "cat/more"), WITH_IDS)


def test_a_path_without_class_folders_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image.png").touch()
    with pytest.raises(DatasetError, match="must hold one folder per class"):
        labelled_images(tmp_path, WITH_IDS)
    with pytest.raises(DatasetError, match="nowhere can't be read: No such file"):
        labelled_images(tmp_path / "nowhere", WITH_IDS)


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat")
    (tmp_path / "cat" / "link.png").symlink_to(tmp_path / "gone")
    with pytest.raises(DatasetError, match=r"link\.png can't be read: No such file"):
        labelled_images(tmp_path, WITH_IDS)


def test_a_broken_link_in_place_of_a_class_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(b"1")
    (tmp_path / "dog").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="dog is a broken link"):
        labelled_images(tmp_path, Classes(("cat", "dog"), None))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    os.mkfifo(tmp_path / "cat" / "1.jpg")
    with pytest.raises(DatasetError, match=r"1\.jpg is not a file"):
        labelled_images(tmp_path, Classes(("cat", "dog"), None))


def test_a_set_of_images_is_the_same_in_any_order() -> None:
    digests = [hashlib.sha256(bytes([n])).hexdigest() for n in range(3)]
    one = image_set("three", digests)
    assert one == image_set("three", reversed(digests))
    assert one.images == 3
    # The same as `sha256sum FILE… | cut -c -64 | sort | sha256sum`.
    assert one.sha256 == hashlib.sha256("".join(f"{d}\n" for d in sorted(digests)).encode()).hexdigest()
    assert one.sha256 != image_set("three", digests[:2]).sha256


def test_the_measuring_data_is_read(shared: Path) -> None:
    wnids = sorted(path.name for path in (shared / "images" / "imagenet-calibration").iterdir())
    classes = Classes(tuple(wnids), tuple(name.partition("_")[2] for name in wnids))
    images = labelled_images(shared / "images" / "imagenet-val", classes)
    assert len(images) == 650
    assert all(image.path.parent.name.startswith(f"{image.index:04d}_") for image in images)
