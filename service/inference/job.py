"""One image on its way through the pool: what is asked, its place in the queue, and its answer."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from service.images.pixels import Crop
from service.inference.classifier import Prediction
from service.inference.variants import LoadedVariant


@dataclass(frozen=True)
class Answer:
    """A prediction, and how long its image waited for a worker."""

    prediction: Prediction
    queue_seconds: float


@dataclass(frozen=True, eq=False)
class Job:
    """One image to classify, as it came: encoded, or as the model's pixels uint8[height, width, 3].

    `deadline`: when its answer is of no use any more, as `time.monotonic` has it.
    """

    variant: LoadedVariant
    data: bytes | NDArray[np.uint8]
    crop: Crop
    deadline: float

    @property
    def size(self) -> int:
        """Bytes that it takes while it waits."""
        return len(self.data) if isinstance(self.data, bytes) else self.data.nbytes


class Queued(Future[Answer]):
    """An image in the queue, and its answer; cancelled, it gives its place back before its turn has come.

    `job` is there until then, or until its turn: whoever keeps the answer keeps neither image nor variant.
    """

    def __init__(self, job: Job, leave: Callable[[Job], None]) -> None:
        super().__init__()
        self.job: Job | None = job
        self.submitted = monotonic()
        self._leave = leave

    def cancel(self) -> bool:
        """Cancel it, unless it is begun or was cancelled before."""
        cancelled = super().cancel()
        job = self.job
        if cancelled and job is not None:
            self.job = None
            self._leave(job)
        return cancelled
