"""The names of the ways to search."""

from enum import StrEnum


class Method(StrEnum):
    """How steps are chosen.

    `uniform`: as many levels in every layer. `greedy`: the layer that loses least for the bits it saves is
    made coarser, by what each alone was measured to lose. `differentiable`: by the gradient of the loss.
    """

    UNIFORM = "uniform"
    GREEDY = "greedy"
    DIFFERENTIABLE = "differentiable"
