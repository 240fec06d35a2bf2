"""Recording an answer, in the same way on all routes."""

from service.api.context import Context
from service.monitoring.feedback import REMEMBERED

# How many of an answer's most probable classes are recorded here.
LIKELIEST = REMEMBERED


def observe(
    shared: Context,
    id_: str,
    variant: str,
    likeliest: list[tuple[int, float]],
    least: float | None = None,
    label: int | None = None,
) -> bool:
    """Record an answer under its id, and return whether it is uncertain.

    `likeliest`: at least its `LIKELIEST` most probable classes, with their probabilities. `least`: the
    probability below which it is uncertain, if not the service's own. `label`: the index of the true class,
    if the request had one.
    """
    uncertain = likeliest[0][1] < (shared.settings.min_probability if least is None else least)
    shared.metrics.count_uncertain(variant, uncertain)
    shared.drift.observe(variant, *likeliest[0])
    shared.feedback.remember(id_, variant, [index for index, _ in likeliest[:REMEMBERED]], label)
    return uncertain
