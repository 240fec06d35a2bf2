from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from service.monitoring.tally import Tally


@given(kinds=st.lists(st.integers(0, 3), max_size=60), size=st.integers(1, 20))
def test_only_the_latest_are_counted(kinds: list[int], size: int) -> None:
    tally = Tally(4, size)
    for number, kind in enumerate(kinds, 1):
        tally.add(kind)
        latest = kinds[max(0, number - size) : number]
        assert len(tally) == len(latest)
        assert tally.counts == [Counter(latest)[kind] for kind in range(4)]


def test_an_empty_tally_counts_nothing() -> None:
    assert len(Tally(2, 5)) == 0
    assert Tally(2, 5).counts == [0, 0]
