"""Formats results for tables: a share with its interval, an evaluation's, a divergence with its error."""

from service.bundle.manifest import Comparison, Evaluation, Proportion

_TOP_5 = 5


def percent(share: Proportion) -> str:
    """Return a share and its interval, in percent."""
    return f"{100 * share.ratio:.2f} ({100 * share.lower:.1f}–{100 * share.upper:.1f})"


def accuracy_cells(evaluation: Evaluation, classes: int) -> list[str]:
    """Return top-1, top-5 and the expected calibration error, in percent.

    Top-5 is empty for a model of so few classes that every answer would count as right.
    """
    top5 = percent(evaluation.top5) if classes > _TOP_5 else ""
    return [percent(evaluation.top1), top5, f"{100 * evaluation.ece:.2f}"]


def divergence_in_words(comparison: Comparison) -> str:
    """Return the mean KL in nats, and its standard error if that is known."""
    error = comparison.kl_nats_error
    return f"{comparison.kl_nats:.4f}" + ("" if error is None else f" ± {error:.4f}")
