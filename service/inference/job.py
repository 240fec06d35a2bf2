"""One image on its way through the pool: the job, its place in the queue, and its answer."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from service.errors import DeadlineExceeded
from service.images.pixels import Crop
from service.inference.classifier import Prediction
from service.inference.loading import LoadedVariant


@dataclass(frozen=True)
class Answer:
    """A prediction, and how long its image waited for a worker."""

    prediction: Prediction
    queue_seconds: float


@dataclass(frozen=True, eq=False)
class Job:
    """One image to classify, as received: encoded, or as the model's pixels uint8[height, width, 3].

    `deadline`: when its answer becomes useless, by `time.monotonic`.
    """

    variant: LoadedVariant
    data: bytes | NDArray[np.uint8]
    crop: Crop
    deadline: float

    @property
    def size(self) -> int:
        """The bytes that it takes while it waits."""
        return len(self.data) if isinstance(self.data, bytes) else self.data.nbytes


class Queued(Future[Answer]):
    """An image in the queue, and the future of its answer; cancelling it while it waits frees its place.

    It drops its job when it is begun or cancelled, so the answer keeps neither image nor variant alive.
    """

    def __init__(self, job: Job, leave: Callable[["Queued", Job], None]) -> None:
        super().__init__()
        self.submitted = monotonic()
        # Whether it waits, or has waited, for memory: a worker has already looked at it.
        self.in_line = False
        self._leave = leave
        # One job or none: whoever removes it owns it, either to work on it or to cancel it.
        self._job = [job]
        self._unwanted = False

    def begin(self) -> Job | None:
        """Take the job, which then belongs to the caller; None if it was cancelled or has begun."""
        try:
            return self._job.pop()
        except IndexError:
            return None

    def put_back(self, job: Job) -> bool:
        """Make a begun job wait once more; return False if someone tried to cancel it meanwhile."""
        self._job.append(job)
        return not (self._unwanted and self.begin())

    def cancel(self) -> bool:
        """Cancel it unless it has begun; return whether it is cancelled, now or before."""
        self._unwanted = True
        job = self.begin()
        if job is not None and super().cancel():
            self._leave(self, job)
        return self.cancelled()


def no_worker_within(seconds: float) -> DeadlineExceeded:
    """Return the error for an image that waited `seconds` in vain."""
    return DeadlineExceeded(
        f"no worker, or no memory to decode it, was free in the {seconds:.3g} seconds that it waited"
    )
