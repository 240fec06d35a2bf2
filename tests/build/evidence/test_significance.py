import pytest
from scipy.stats import binomtest

from build.evidence.significance import mcnemar_p, p_in_digits


@pytest.mark.parametrize(("lost", "won"), [(1, 0), (9, 15), (52, 19), (3, 3), (0, 12), (400, 380)])
def test_mcnemar_p_is_that_of_the_exact_binomial_test(lost: int, won: int) -> None:
    assert mcnemar_p(lost, won) == pytest.approx(binomtest(lost, lost + won).pvalue)


def test_without_discordant_pairs_p_is_1() -> None:
    assert mcnemar_p(0, 0) == 1


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (0.0, "< 0.001"),
        (0.00099, "< 0.001"),
        (0.001, "0.001"),
        (0.0494, "0.049"),
        (0.0521, "0.052"),
        (0.104, "0.10"),
        (0.8036, "0.80"),
        (1.0, "1.00"),
    ],
)
def test_p_is_shown_with_enough_digits_to_judge_its_significance(p: float, shown: str) -> None:
    assert p_in_digits(p) == shown
