"""How long and how fast training goes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train; `label_weight` is the labels' share of the loss."""

    epochs: int = 4
    batch_size: int = 16
    learning_rate: float = 1e-5
    label_weight: float = 0.2
    seed: int = 0
