from pathlib import Path

import pytest

from build.errors import BuildError
from build.network.classes import read_classes
from service.bundle.folder import Classes


def refused(given: tuple[int, Path, Path | None], message: str) -> None:
    with pytest.raises(BuildError, match=message) as caught:
        read_classes(*given)
    assert "\n" not in str(caught.value)


def test_networks_of_1000_classes_get_the_labels_of_imagenet(tmp_path: Path) -> None:
    classes = read_classes(1000, None, None)
    assert classes.class_ids is not None
    assert (classes.labels[281], classes.class_ids[281]) == ("tabby, tabby cat", "n02123045")


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_wrong_number_of_labels_or_class_ids_is_refused(tmp_path: Path) -> None:
    two, three = write(tmp_path / "two", "a", "b"), write(tmp_path / "three", "c", "d", "e")
    assert read_classes(2, two, None) == Classes(("a", "b"), None)
    refused((3, two, None), "two has 2 lines, but the network has 3 classes")
    refused((2, two, three), "three has 3 lines, but the network has 2 classes")


def test_class_ids_may_leave_out_the_background(tmp_path: Path) -> None:
    labels, ids = write(tmp_path / "labels", "Background", "cat"), write(tmp_path / "ids", "n1")
    assert read_classes(2, labels, ids) == Classes(("Background", "cat"), ("Background", "n1"))
    plain = write(tmp_path / "plain", "dog", "cat")
    refused((2, plain, ids), "ids has 1 lines, but the network has 2 classes")


def test_a_byte_order_mark_is_not_part_of_a_label(tmp_path: Path) -> None:
    labels, ids = write(tmp_path / "labels", "\ufeffbackground", "cat"), write(tmp_path / "ids", "\ufeffn1")
    assert read_classes(2, labels, ids) == Classes(("background", "cat"), ("background", "n1"))


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\x0b", "\x1c"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_line_feeds_end_a_line(tmp_path: Path, character: str, end: str) -> None:
    for last in ("", end):
        (tmp_path / "labels").write_bytes(f"a{character}b{end}c{last}".encode())
        assert read_classes(2, tmp_path / "labels", None) == Classes((f"a{character}b", "c"), None)


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    refused((1, write(tmp_path / "empty"), None), "empty has 0 lines, but the network has 1 classes")


def test_repeated_class_ids_are_refused(tmp_path: Path) -> None:
    labels, ids = write(tmp_path / "labels", "a", "b", "c"), write(tmp_path / "ids", "n1", "n2", "n1")
    refused((3, labels, ids), "ids names 1 class ids twice")


def test_a_labels_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    refused((1, tmp_path / "latin", None), "latin can't be read")
    refused((1, tmp_path / "none", None), "none can't be read")
