import pytest

from service.api.labels import Labels
from service.bundle.folder import Classes
from service.errors import BadParameter

WITH_IDS = Labels(Classes(("crane", "crane", "7up"), ("n01", "n02", "1")))
WITHOUT = Labels(Classes(("crane", "crane", "7up"), None))


@pytest.mark.parametrize(
    ("labels", "label", "index"),
    [
        (WITH_IDS, "n02", 1),
        (WITH_IDS, 2, 2),
        (WITH_IDS, "0", 0),
        (WITH_IDS, "1", 2),  # A class id goes before an index.
        (WITH_IDS, 1, 1),
        (WITHOUT, "2", 2),
        (WITHOUT, 0, 0),
    ],
)
def test_a_class_has_an_index_and_a_class_id(labels: Labels, label: str | int, index: int) -> None:
    assert labels.index(label) == index


@pytest.mark.parametrize("label", ["crane", "7up", "3", 3, -1, "-1", "", "1.0", " 1", "²", "9" * 5000, "n03"])
def test_anything_else_is_refused(label: str | int) -> None:
    with pytest.raises(BadParameter, match="a class' index, from 0 to 2, or a class id, such as n01;"):
        WITH_IDS.index(label)
    with pytest.raises(BadParameter, match="a class' index, from 0 to 2; texts of labels are not taken"):
        WITHOUT.index(label)
