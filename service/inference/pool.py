"""Worker threads, each with its own classifier, behind one bounded queue."""

import math
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from service.errors import QueueFull
from service.inference.classifier import Classifier, Prediction
from service.inference.image import Crop

# How much of the estimate each new measurement replaces: about the last ten count.
_SMOOTHING = 0.1


@dataclass(frozen=True)
class Answer:
    """A prediction, and how long its image waited for a worker."""

    prediction: Prediction
    queue_seconds: float


@dataclass(frozen=True)
class _Job:
    data: bytes
    crop: Crop
    future: Future[Answer]
    submitted: float


class Pool:
    """One thread a classifier; images wait for them in one queue of `queue_size` places.

    Decode and inference happen in the same thread, so an image crosses threads once. What a
    classifier raises reaches the caller through the future.
    """

    def __init__(self, classifiers: Sequence[Classifier], queue_size: int) -> None:
        self._queue: queue.Queue[_Job | None] = queue.Queue(queue_size)
        self._lock = threading.Lock()
        self._service_seconds = 0.0
        self._threads = [
            threading.Thread(target=self._work, args=(classifier,), name=f"worker-{number}")
            for number, classifier in enumerate(classifiers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def workers(self) -> int:
        """How many images are worked on at once."""
        return len(self._threads)

    @property
    def waiting(self) -> int:
        """How many images wait for a worker."""
        return self._queue.qsize()

    def submit(self, data: bytes, crop: Crop) -> Future[Answer]:
        """Queue an image, encoded as it came; a future that is cancelled while it waits costs no work.

        Raises:
            QueueFull: every place is taken; says in how many seconds those before it are done.
        """
        job = _Job(data, crop, Future(), time.perf_counter())
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise QueueFull(
                f"{self.waiting} images wait already", retry_after_seconds=self._clears_in_seconds()
            ) from None
        return job.future

    def close(self) -> None:
        """Finish what is queued, then end the threads; nothing may be submitted any more."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _clears_in_seconds(self) -> int:
        images = self.waiting + self.workers
        return max(1, math.ceil(self._service_seconds * images / self.workers))

    def _work(self, classifier: Classifier) -> None:
        while (job := self._queue.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            started = time.perf_counter()
            try:
                prediction = classifier.classify(job.data, job.crop)
            except BaseException as error:
                job.future.set_exception(error)
            else:
                job.future.set_result(Answer(prediction, started - job.submitted))
            self._measured(time.perf_counter() - started)

    def _measured(self, seconds: float) -> None:
        with self._lock:
            weight = _SMOOTHING if self._service_seconds else 1.0
            self._service_seconds += weight * (seconds - self._service_seconds)
