from pathlib import Path

import pytest

from build.errors import BuildError
from build.photos.class_names import classes_of
from service.measuring.labelled import labelled_images


def folders_of(root: Path, names: list[str]) -> list[Path]:
    for name in names:
        (root / name).mkdir()
        (root / name / "photo.jpg").write_text(name)
    return [root / name for name in names]


@pytest.mark.parametrize(
    ("names", "labels", "class_ids"),
    [
        (
            ["n02124075", "n02123045"],
            ["tabby, tabby cat", "Egyptian cat"],
            ["n02123045", "n02124075"],
        ),
        (
            ["0285_n02124075", "0281_n02123045"],
            ["tabby, tabby cat", "Egyptian cat"],
            ["n02123045", "n02124075"],
        ),
        (["n99999999", "n02123045"], ["n02123045", "n99999999"], ["n02123045", "n99999999"]),
        (["n02123045", "cat"], ["cat", "n02123045"], None),
        (["2_pear", "10_plum"], ["10_plum", "2_pear"], None),
        (["10_j", *(f"{n}_{n + 1}" for n in range(10))], [*map(str, range(1, 11)), "j"], None),
        (["02_Kiwi", "01_Lime"], ["Lime", "Kiwi"], None),
        (["00_a b", "01_a"], ["a b", "a"], None),
        (["0_apple", "1_apple"], ["0_apple", "1_apple"], None),
        (["0_apple", "00_pear"], ["00_pear", "0_apple"], None),
        (["1_cat", "cat"], ["1_cat", "cat"], None),
        (["10", "2", "1"], ["1", "2", "10"], None),
        (["pear", "Äpfel", "apple"], ["apple", "pear", "Äpfel"], None),
    ],
)
def test_class_names_come_from_the_names_of_folders(
    tmp_path: Path, names: list[str], labels: list[str], class_ids: list[str] | None
) -> None:
    classes = classes_of(folders_of(tmp_path, names))
    assert list(classes.labels) == labels
    assert classes.class_ids == (None if class_ids is None else tuple(class_ids))
    # The evaluation assigns each folder to a class of its own, the one with its name.
    expected = classes.class_ids or classes.labels
    for image in labelled_images(tmp_path, classes):
        assert image.path.parent.name.endswith(expected[image.index])
    assert len({image.index for image in labelled_images(tmp_path, classes)}) == len(names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat"], "cat is the only class; at least 2 are needed, with a folder each"),
        (
            ["0001_n02123045", "n02123045"],
            "n02123045 and .*n02123045 are the same class; put their images together",
        ),
        (["cat", "dog\nfox"], r"dog\\nfox' can't be a label: it must be one line of UTF-8"),
        (["cat", "dog\udcff"], r"dog\\udcff' can't be a label: it must be one line of UTF-8"),
    ],
)
def test_folders_that_can_not_be_classes_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(BuildError, match=message):
        classes_of([tmp_path / name for name in names])
