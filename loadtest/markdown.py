"""Tables and numbers in Markdown."""

from collections.abc import Sequence

from loadtest.accuracy import Proportion


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, its first column aligned left and the others right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def percent(share: Proportion) -> str:
    """Return a proportion and its interval, in percent."""
    return f"{100 * share.ratio:.2f} ({100 * share.lower:.1f}–{100 * share.upper:.1f})"


def milliseconds(seconds: float | None) -> str:
    """Return the number of milliseconds, without the unit; a dash for None."""
    return "-" if seconds is None else f"{1e3 * seconds:.1f}"
