import pytest

from service.api.labels import Labels
from service.bundle.folder import Classes
from service.errors import BadParameter

TEXTS = ("crane", "crane", "7up", "Grüner Apfel", "2")
WITH_IDS = Labels(Classes(TEXTS, ("n01", "n02", "1", "7up", "n05")))
WITHOUT = Labels(Classes(TEXTS, None))
DECOMPOSED = Labels(Classes(("crane", "cafe\u0301"), ("e\u03011", "e\u03012")))


@pytest.mark.parametrize(
    ("labels", "label", "index"),
    [
        (WITH_IDS, "n02", 1),
        (WITH_IDS, 2, 2),
        (WITH_IDS, "0", 0),
        (WITH_IDS, "1", 2),  # A class id goes before an index.
        (WITH_IDS, 1, 1),
        (WITH_IDS, "7up", 3),  # And before a label.
        (WITH_IDS, "Grüner Apfel", 3),
        (WITHOUT, "2", 2),  # An index goes before a label.
        (WITHOUT, 0, 0),
        (WITHOUT, "7up", 2),
        (WITHOUT, "Grüner Apfel", 3),
        (WITHOUT, "Gru\u0308ner Apfel", 3),  # As macOS writes it.
        (DECOMPOSED, "é2", 1),
        (DECOMPOSED, "café", 1),
    ],
)
def test_a_class_has_an_index_and_a_class_id_and_a_label(
    labels: Labels, label: str | int, index: int
) -> None:
    assert labels.index(label) == index


@pytest.mark.parametrize("label", ["5", 5, -1, "-1", "", "1.0", " 1", "²", "9" * 5000, "n03", "grüner apfel"])
def test_anything_else_is_refused(label: str | int) -> None:
    with pytest.raises(
        BadParameter, match="index from 0 to 4, a class id such as n01, or a label that only one class has"
    ):
        WITH_IDS.index(label)
    with pytest.raises(BadParameter, match="index from 0 to 4, or a label that only one class has"):
        WITHOUT.index(label)


def test_a_label_of_several_classes_names_them() -> None:
    with pytest.raises(BadParameter) as caught:
        WITH_IDS.index("crane")
    assert str(caught.value) == (
        "label is 'crane', which 2 classes share; name one by its class id or index: n01 (0), n02 (1)"
    )
    with pytest.raises(BadParameter, match=r"name one by its index: 0, 1$"):
        WITHOUT.index("crane")


def test_numbers_are_never_labels() -> None:
    """Else `2` would be the third class by its index, and `3` the very same by its label."""
    numbers = Labels(Classes(("1", "2", "3"), None))
    assert numbers.index("2") == 2
    with pytest.raises(BadParameter, match="from 0 to 2"):
        numbers.index("3")
