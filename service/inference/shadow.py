"""Shadow runs: a share of the answers is compared with another variant's when workers are idle."""

import random
import threading
from enum import StrEnum
from time import monotonic
from typing import Protocol

from service.inference.classifier import Classifier, Prediction
from service.inference.divergence import kl_nats

# How long no image must have come before a shadow runs. By then the answer is on its way to the client,
# and a client that sends its next photo as soon as it has an answer keeps the service busy.
IDLE_SECONDS = 0.01


class Skip(StrEnum):
    """Why an answer was not compared as intended: images came, or another answer was waiting or running."""

    QUEUE = "queue"
    SHADOW = "shadow"


class Observer(Protocol):
    """Is told what happened to the answers to compare; any worker's thread can call it."""

    def compared(self, variant: str, *, agrees: bool, kl_nats: float, confidence_shift: float) -> None:
        """Record that the variant's answer was compared with the shadow's.

        `agrees`: whether the top-1 is the same; `kl_nats`: the divergence KL(shadow‖variant);
        `confidence_shift`: the variant's top-1 probability minus the shadow's.
        """

    def skipped(self, reason: Skip) -> None:
        """Record that an answer was not compared."""

    def failed(self, variant: str, error: Exception) -> None:
        """Record that the comparison of the variant's answer failed."""


class Shadow:
    """Runs its classifier on one image at a time, in whichever worker is idle; keeps at most one waiting.

    It keeps the model's pixels of the answer to compare, so that they are not decoded again.
    """

    def __init__(self, classifier: Classifier, ratio: float, observer: Observer) -> None:
        """`ratio`: the share of answers to compare, from 0 to 1."""
        self._classifier = classifier
        self._ratio = ratio
        self._observer = observer
        # Held from when an answer is taken until it is compared or dropped.
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._pending: Prediction | None = None
        self._seconds = 0.0
        self._ends = 0.0

    @property
    def pending(self) -> bool:
        """Whether an answer is waiting to be compared."""
        return self._pending is not None

    @property
    def seconds_left(self) -> float:
        """The estimated seconds that a running comparison still occupies its worker; 0 if none is running."""
        return max(0.0, self._ends - monotonic())

    def offer(self, prediction: Prediction) -> None:
        """Keep a new answer for `run`, if it is one of those to compare."""
        if prediction.variant == self._classifier.variant or random.random() >= self._ratio:  # noqa: S311
            return
        if self._turn.acquire(blocking=False):
            self._pending = prediction
        else:
            self._observer.skipped(Skip.SHADOW)

    def drop(self) -> None:
        """Drop the waiting answer: there are images to work on."""
        if self._take() is not None:
            self._turn.release()
            self._observer.skipped(Skip.QUEUE)

    def run(self) -> None:
        """Compare the waiting answer, if no other worker has taken it; never raises."""
        prediction = self._take()
        if prediction is None:
            return
        started = monotonic()
        self._ends = started + self._seconds
        try:
            self._compare(prediction)
        except Exception as error:
            self._observer.failed(prediction.variant, error)
        finally:
            self._ends, self._seconds = 0.0, monotonic() - started
            self._turn.release()

    def _take(self) -> Prediction | None:
        with self._lock:
            prediction, self._pending = self._pending, None
        return prediction

    def _compare(self, prediction: Prediction) -> None:
        actual = prediction.probabilities
        expected = self._classifier.probabilities(prediction.pixels)
        self._observer.compared(
            prediction.variant,
            agrees=bool(expected.argmax() == actual.argmax()),
            kl_nats=float(kl_nats(expected, actual)),
            confidence_shift=float(actual.max()) - float(expected.max()),
        )
