"""What is taken note of an answer, on all routes alike."""

from service.api.context import Context
from service.monitoring.feedback import REMEMBERED

# Of an answer's likeliest classes, as many as are looked at here.
LIKELIEST = REMEMBERED


def observe(
    shared: Context,
    id_: str,
    variant: str,
    likeliest: list[tuple[int, float]],
    least: float | None = None,
    label: int | None = None,
) -> bool:
    """Take note of an answer under its id: its classes and probabilities, the `LIKELIEST` at least.

    `least`: the probability below which it is uncertain, the service's own where the request told none;
    `label`: the index of the true class, where the request told it. Returns whether it is uncertain.
    """
    uncertain = likeliest[0][1] < (shared.settings.min_probability if least is None else least)
    shared.metrics.count_uncertain(variant, uncertain)
    shared.drift.observe(variant, *likeliest[0])
    shared.feedback.remember(id_, variant, [index for index, _ in likeliest[:REMEMBERED]], label)
    return uncertain
