import pytest

from service.api.labels import Labels
from service.bundle.folder import Classes
from service.errors import BadParameter

TEXTS = ("crane", "crane", "7up", "Grüner Apfel", "2")
WITH_IDS = Labels(Classes(TEXTS, ("n01", "n02", "1", "7up", "n05")))
WITHOUT_IDS = Labels(Classes(TEXTS, None))
DECOMPOSED = Labels(Classes(("crane", "cafe\u0301"), ("e\u03011", "e\u03012")))


@pytest.mark.parametrize(
    ("labels", "label", "index"),
    [
        (WITH_IDS, "n02", 1),
        (WITH_IDS, 2, 2),
        (WITH_IDS, "0", 0),
        (WITH_IDS, "1", 2),  # A class id takes precedence over an index.
        (WITH_IDS, 1, 1),
        (WITH_IDS, "7up", 3),  # And over a label.
        (WITH_IDS, "Grüner Apfel", 3),
        (WITHOUT_IDS, "2", 2),  # An index takes precedence over a label.
        (WITHOUT_IDS, 0, 0),
        (WITHOUT_IDS, "7up", 2),
        (WITHOUT_IDS, "Grüner Apfel", 3),
        (WITHOUT_IDS, "Gru\u0308ner Apfel", 3),  # As macOS writes it.
        (DECOMPOSED, "é2", 1),
        (DECOMPOSED, "café", 1),
    ],
)
def test_a_class_is_found_by_its_index_class_id_or_label(
    labels: Labels, label: str | int, index: int
) -> None:
    assert labels.index(label) == index


@pytest.mark.parametrize("label", ["5", 5, -1, "-1", "", "1.0", " 1", "²", "9" * 5000, "n03", "grüner apfel"])
def test_an_unknown_label_is_refused(label: str | int) -> None:
    with pytest.raises(
        BadParameter, match="index from 0 to 4, a class id such as n01, or a label that only one class has"
    ):
        WITH_IDS.index(label)
    with pytest.raises(BadParameter, match="index from 0 to 4, or a label that only one class has"):
        WITHOUT_IDS.index(label)


def test_a_label_of_several_classes_names_them() -> None:
    with pytest.raises(BadParameter) as caught:
        WITH_IDS.index("crane")
    assert str(caught.value) == (
        "label is 'crane', which 2 classes share; name one by its class id or index: n01 (0), n02 (1)"
    )
    with pytest.raises(BadParameter, match=r"name one by its index: 0, 1$"):
        WITHOUT_IDS.index("crane")


def test_numbers_are_never_labels() -> None:
    """Otherwise `2`, as an index, and `3`, as a label, would both mean the third class."""
    numbers = Labels(Classes(("1", "2", "3"), None))
    assert numbers.index("2") == 2
    with pytest.raises(BadParameter, match="from 0 to 2"):
        numbers.index("3")
