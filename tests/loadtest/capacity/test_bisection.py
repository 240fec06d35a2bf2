import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.capacity.bisection import PRECISION, highest


@given(limit=st.floats(1, 5000), start=st.floats(1, 100))
def test_the_highest_rate_is_found(limit: float, start: float) -> None:
    tried: list[float] = []

    def holds(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    found = highest(holds, start)
    if found is None:
        assert limit < start / 8
    else:
        assert found <= limit <= found * PRECISION
        assert found in tried
    assert len(tried) < 25


@pytest.mark.parametrize("start", [1, 16])
def test_where_nothing_holds_there_is_none(start: float) -> None:
    assert highest(lambda _rate: False, start) is None


def test_a_rate_of_an_eighth_of_the_start_is_still_found() -> None:
    assert highest(lambda rate: rate <= 2, 16) == 2
