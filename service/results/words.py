"""Formats results for tables: a share with its interval, a divergence with its error."""

from service.bundle.manifest import Comparison, Proportion


def percent(share: Proportion) -> str:
    """Return a share and its interval, in percent."""
    return f"{100 * share.ratio:.2f} ({100 * share.lower:.1f}–{100 * share.upper:.1f})"


def divergence_in_words(comparison: Comparison) -> str:
    """Return the mean KL in nats, and its standard error if that is known."""
    error = comparison.kl_nats_error
    return f"{comparison.kl_nats:.4f}" + ("" if error is None else f" ± {error:.4f}")
