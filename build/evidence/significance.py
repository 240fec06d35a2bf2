"""Whether a difference between two variants on the same images can be chance."""

from math import comb


def mcnemar_p(lost: int, won: int) -> float:
    """The exact two-sided p-value of McNemar's test for discordant pairs.

    The chance of a split at least this uneven if both variants were equally good.
    """
    total, least = lost + won, min(lost, won)
    tail = sum(comb(total, k) for k in range(least + 1))
    return min(1.0, float(2 * tail / 2**total))


def p_in_digits(p: float) -> str:
    """A p-value for a table: never nought, and in three digits where two hide on which side of 0.05 it is."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
