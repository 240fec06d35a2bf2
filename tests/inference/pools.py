"""Pools whose workers begin an image when the test opens a gate."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from service.bundle.folder import Bundle
from service.images.pixels import Crop
from service.images.room import Memory, Room
from service.inference.classifier import Classifier, Prediction
from service.inference.job import Answer, Job
from service.inference.loading import LoadedVariant
from service.inference.pool import Pool
from service.inference.shadow import Shadow
from tests.colours import LABELS_OF


class Gated(Classifier):
    """A classifier that waits at a gate before each image."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, "ptq")
        self.started = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.images = 0

    def classify(self, data: bytes, crop: Crop = Crop.BUNDLE, room: Memory | None = None) -> Prediction:
        self.started.release()
        self.gate.acquire()
        self.images += 1
        return super().classify(data, crop, room)


def gated_pair(bundle: Bundle) -> tuple[Gated, Gated]:
    """Two classifiers with the same gate, so that it does not matter which worker takes an image."""
    first, second = Gated(bundle), Gated(bundle)
    second.started, second.gate = first.started, first.gate
    return first, second


class Running:
    """A pool, and the variant that its jobs are for."""

    def __init__(self, pool: Pool, variant: LoadedVariant) -> None:
        self.pool = pool
        self.variant = variant

    def submit(self, data: bytes, crop: Crop = Crop.BUNDLE, seconds: float = 60) -> Future[Answer]:
        return self.pool.submit(Job(self.variant, data, crop, time.monotonic() + seconds))


@contextmanager
def running(
    *classifiers: Classifier,
    queue_size: int = 100,
    queue_bytes: int = 1_000_000,
    room: Room | None = None,
    shadow: Shadow | None = None,
) -> Iterator[Running]:
    pool = Pool(len(classifiers), queue_size=queue_size, queue_bytes=queue_bytes, room=room, shadow=shadow)
    try:
        yield Running(pool, LoadedVariant(classifiers[0].variant, classifiers))
    finally:
        for classifier in classifiers:
            if isinstance(classifier, Gated):
                classifier.gate.release(1000)
        pool.close()


def top(future: Future[Answer]) -> str:
    return LABELS_OF[future.result(60).prediction.top(1)[0][0]]
