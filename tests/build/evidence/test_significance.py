import pytest
from scipy.stats import binomtest

from build.evidence.significance import mcnemar_p


@pytest.mark.parametrize(("lost", "won"), [(1, 0), (9, 15), (52, 19), (3, 3), (0, 12), (400, 380)])
def test_it_is_the_exact_binomial_test(lost: int, won: int) -> None:
    assert mcnemar_p(lost, won) == pytest.approx(binomtest(lost, lost + won).pvalue)


def test_without_discordant_pairs_nothing_speaks_for_a_difference() -> None:
    assert mcnemar_p(0, 0) == 1
