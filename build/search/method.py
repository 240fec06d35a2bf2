"""The names of the search methods."""

from enum import StrEnum


class Method(StrEnum):
    """How steps are chosen.

    `uniform`: the same number of levels in every layer. `greedy`: the layer that loses least for the bits it
    saves is made coarser, by the measured loss of each layer alone. `differentiable`: by the gradient of the
    loss.
    """

    UNIFORM = "uniform"
    GREEDY = "greedy"
    DIFFERENTIABLE = "differentiable"
