"""How long and how fast training goes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train: Adam with warm-up to `learning_rate`, then cosine decay to 0."""

    epochs: int
    batch_size: int = 16
    learning_rate: float = 1e-5
    seed: int = 0


DISTILLATION = Schedule(epochs=4)
"""For the classes that the weights already have."""
LABEL_WEIGHT = 0.2
"""The weight of the labels' cross-entropy in the loss of distillation."""
OWN_CLASSES = Schedule(epochs=8, learning_rate=1e-4)
"""For new classes."""
