"""What is taken note of an answer, on all routes alike."""

from service.api.context import Context
from service.monitoring.feedback import REMEMBERED

# Of an answer's likeliest classes, as many as are looked at here.
LIKELIEST = REMEMBERED


def observe(
    shared: Context, id_: str, variant: str, likeliest: list[tuple[int, float]], label: int | None = None
) -> None:
    """Take note of an answer under its id: its classes and probabilities, the `LIKELIEST` at least.

    `label`: the index of the true class, where the request told it.
    """
    shared.drift.observe(variant, *likeliest[0])
    shared.feedback.remember(id_, variant, [index for index, _ in likeliest[:REMEMBERED]], label)
