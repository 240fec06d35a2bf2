"""The result of one measurement."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median


class Decoder(StrEnum):
    """How a bare loop decodes: as the service does, or by Pillow alone."""

    SERVICE = "service"
    PILLOW = "pillow"


@dataclass(frozen=True)
class Measured:
    """The requests in some seconds of wall-clock time, and the processor time that they took.

    `answered`: with a prediction; `refused`: with an error status; `failed`: without an answer.
    """

    answered: int
    seconds: float
    cpu_seconds: float
    refused: int = 0
    failed: int = 0

    @property
    def rate(self) -> float:
        """Answered requests per second."""
        return self.answered / self.seconds

    @property
    def cpu_per_answer(self) -> float:
        """Processor seconds per answered request."""
        return self.cpu_seconds / self.answered if self.answered else float("inf")

    @property
    def cores(self) -> float:
        """How many cores the process used on average."""
        return self.cpu_seconds / self.seconds


def median_rate(rounds: Sequence[Measured]) -> float:
    """Return the rounds' median of answered requests per second."""
    return median(measured.rate for measured in rounds)


def median_cpu(rounds: Sequence[Measured]) -> float:
    """Return the rounds' median of processor seconds per answered request."""
    return median(measured.cpu_per_answer for measured in rounds)


def median_cores(rounds: Sequence[Measured]) -> float:
    """Return the rounds' median of cores that the process used."""
    return median(measured.cores for measured in rounds)
