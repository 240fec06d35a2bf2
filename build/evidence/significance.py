"""Whether a difference between two variants on the same images can be chance."""

from math import comb


def mcnemar_p(lost: int, won: int) -> float:
    """Return the exact two-sided p-value of McNemar's test for discordant pairs.

    It is the chance of a split at least this uneven if both variants are equally good.
    """
    total, least = lost + won, min(lost, won)
    tail = sum(comb(total, k) for k in range(least + 1))
    return min(1.0, float(2 * tail / 2**total))


def p_in_digits(p: float) -> str:
    """Format a p-value: never as zero, and with three digits if two hide on which side of 0.05 it is."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
