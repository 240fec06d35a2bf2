"""Shadow runs: a share of the answers is compared with another variant's, when workers have nothing to do."""

import random
import threading
from enum import StrEnum
from time import monotonic
from typing import Protocol

from service.inference.classifier import Classifier, Prediction
from service.inference.divergence import kl_nats

# For how long no image may come before a shadow runs. By then the answer is on its way to the client;
# and one that sends its next photo as soon as it has an answer keeps the service at work.
IDLE_SECONDS = 0.01


class Skip(StrEnum):
    """Why an answer that was to be compared is not: images came, or another one waited or ran."""

    QUEUE = "queue"
    SHADOW = "shadow"


class Observer(Protocol):
    """Who is told what became of the answers that were to be compared; any worker's thread calls it."""

    def compared(self, variant: str, *, agrees: bool, kl_nats: float, confidence_shift: float) -> None:
        """The variant's answer was compared with the shadow's.

        `agrees`: whether the top-1 is the same; `kl_nats`: the divergence KL(shadow‖variant);
        `confidence_shift`: the variant's top-1 probability less the shadow's.
        """

    def skipped(self, reason: Skip) -> None:
        """An answer was not compared."""

    def failed(self, variant: str, error: Exception) -> None:
        """The comparison of the variant's answer broke down."""


class Shadow:
    """Runs one image at a time on its classifier, whichever worker has the time; keeps at most one.

    Of an answer that is to be compared the model's pixels are kept, so that they are not decoded again.
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
        """Whether an answer waits to be compared."""
        return self._pending is not None

    @property
    def seconds_left(self) -> float:
        """For how long the one that runs is expected to hold its worker; 0 where none does."""
        return max(0.0, self._ends - monotonic())

    def offer(self, prediction: Prediction) -> None:
        """Take an answer that was just given, if it is one of those to compare; it waits for `run`."""
        if prediction.variant == self._classifier.variant or random.random() >= self._ratio:  # noqa: S311
            return
        if self._turn.acquire(blocking=False):
            self._pending = prediction
        else:
            self._observer.skipped(Skip.SHADOW)

    def drop(self) -> None:
        """Let go of the answer that waits: there are images to work on."""
        if self._take() is not None:
            self._turn.release()
            self._observer.skipped(Skip.QUEUE)

    def run(self) -> None:
        """Compare the answer that waits, if no other worker has taken it; never raises."""
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
