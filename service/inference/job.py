"""One image on its way through the pool: what is asked, its place in the queue, and its answer."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from service.errors import DeadlineExceeded
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

    Its job is there until then, or until its turn: whoever keeps the answer keeps neither image nor variant.
    """

    def __init__(self, job: Job, leave: Callable[["Queued", Job], None]) -> None:
        super().__init__()
        self.submitted = monotonic()
        # Whether it waits, or waited, for memory: a worker looked at it already.
        self.in_line = False
        self._leave = leave
        # One or none: whoever takes it out has it, be it to work on it or to cancel it.
        self._job = [job]
        self._unwanted = False

    def begin(self) -> Job | None:
        """The job, which is the caller's from now on; None where it was cancelled, or is begun."""
        try:
            return self._job.pop()
        except IndexError:
            return None

    def put_back(self, job: Job) -> bool:
        """Let it wait once more, begun in vain; False where somebody tried to cancel it meanwhile."""
        self._job.append(job)
        return not (self._unwanted and self.begin())

    def cancel(self) -> bool:
        """Cancel it, unless it is begun; whether it is cancelled, now or before."""
        self._unwanted = True
        job = self.begin()
        if job is not None and super().cancel():
            self._leave(self, job)
        return self.cancelled()


def no_worker_within(seconds: float) -> DeadlineExceeded:
    """The error of an image that waited so long in vain."""
    return DeadlineExceeded(
        f"no worker, or no memory to decode it, was free within the {seconds:.3g} seconds it had"
    )
