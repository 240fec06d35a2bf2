import pytest

from service.results.words import accuracy_cells, percent
from tests.evaluated import evaluation


@pytest.mark.parametrize(("classes", "has_top5"), [(2, False), (5, False), (6, True), (1000, True)])
def test_top_5_is_left_out_if_there_are_no_more_classes(classes: int, has_top5: bool) -> None:
    one = evaluation(3)
    top5 = percent(one.top5) if has_top5 else ""
    assert accuracy_cells(one, classes) == [percent(one.top1), top5, "25.00"]
