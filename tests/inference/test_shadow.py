import threading
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.bundle.folder import Bundle
from service.errors import NoAnswer
from service.inference.classifier import Classifier
from service.inference.divergence import kl_nats
from service.inference.shadow import Shadow, Skip
from tests.inference.pools import photo


class Seen:
    """What an observer was told."""

    def __init__(self) -> None:
        self.comparisons: list[tuple[str, dict[str, Any]]] = []
        self.skips: list[Skip] = []
        self.failures: list[tuple[str, Exception]] = []

    def compared(self, variant: str, **difference: Any) -> None:
        self.comparisons.append((variant, difference))

    def skipped(self, reason: Skip) -> None:
        self.skips.append(reason)

    def failed(self, variant: str, error: Exception) -> None:
        self.failures.append((variant, error))


class Broken(Classifier):
    """A classifier that breaks down as a delegate may."""

    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise RuntimeError("the device is gone")


class HeldShadow(Classifier):
    """A classifier that begins each image only when it is let."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, "fp32")
        self.begun = threading.Semaphore(0)
        self.let = threading.Semaphore(0)

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.begun.release()
        assert self.let.acquire(timeout=60)
        return super().probabilities(pixels)


def test_an_answer_is_compared_with_what_the_shadow_says_of_the_same_pixels(colours: Bundle) -> None:
    seen, ptq, fp32 = Seen(), Classifier(colours, "ptq"), Classifier(colours, "fp32")
    shadow = Shadow(fp32, 1, seen)
    prediction, expected = ptq.classify(photo("red")), fp32.classify(photo("red"))
    shadow.offer(prediction)
    assert shadow.pending
    shadow.run()
    assert not shadow.pending
    ((variant, difference),) = seen.comparisons
    assert variant == "ptq"
    assert difference == {
        "agrees": True,
        "kl_nats": float(kl_nats(expected.probabilities, prediction.probabilities)),
        "confidence_shift": pytest.approx(prediction.probabilities.max() - expected.probabilities.max()),
    }
    assert difference["kl_nats"] > 0


def test_another_top_class_is_told(colours: Bundle) -> None:
    seen, ptq = Seen(), Classifier(colours, "ptq")
    shadow = Shadow(Classifier(colours, "fp32"), 1, seen)
    prediction = ptq.classify(photo("red"))
    prediction.probabilities[:] = ptq.classify(photo("blue")).probabilities
    shadow.offer(prediction)
    shadow.run()
    assert [difference["agrees"] for _, difference in seen.comparisons] == [False]


def test_its_own_answers_are_not_compared(colours: Bundle) -> None:
    seen, fp32 = Seen(), Classifier(colours, "fp32")
    shadow = Shadow(fp32, 1, seen)
    shadow.offer(fp32.classify(photo("red")))
    assert not shadow.pending
    assert seen.skips == []


@pytest.mark.parametrize(("ratio", "least", "most"), [(0, 0, 0), (0.3, 200, 400), (1, 1000, 1000)])
def test_a_share_is_taken(colours: Bundle, ratio: float, least: int, most: int) -> None:
    seen = Seen()
    shadow = Shadow(Classifier(colours, "fp32"), ratio, seen)
    prediction = Classifier(colours, "ptq").classify(photo("red"))
    for _ in range(1000):
        shadow.offer(prediction)
        shadow.drop()
    assert least <= len(seen.skips) <= most
    assert set(seen.skips) <= {Skip.QUEUE}


def test_one_is_taken_at_a_time(colours: Bundle) -> None:
    seen, held = Seen(), HeldShadow(colours)
    held.let.release()  # For a first one, after which it is known how long one takes.
    shadow, prediction = Shadow(held, 1, seen), Classifier(colours, "ptq").classify(photo("red"))
    for _ in range(2):
        shadow.offer(prediction)
    assert seen.skips == [Skip.SHADOW]
    shadow.run()
    assert held.begun.acquire(timeout=60)
    shadow.offer(prediction)
    other = threading.Thread(target=shadow.run)
    other.start()
    assert held.begun.acquire(timeout=60)
    shadow.offer(prediction)
    assert not shadow.pending
    shadow.run()  # There is none to run, and this must not wait for the one that runs.
    shadow.drop()
    held.let.release()
    other.join()
    assert seen.skips == [Skip.SHADOW] * 2
    assert len(seen.comparisons) == 2


def test_what_breaks_down_is_told_and_the_next_one_runs(colours: Bundle) -> None:
    seen, broken = Seen(), Classifier(colours, "fp32")
    broken.__class__ = Broken
    shadow, prediction = Shadow(broken, 1, seen), Classifier(colours, "ptq").classify(photo("red"))
    for _ in range(2):
        shadow.offer(prediction)
        shadow.run()
    assert [(variant, str(error)) for variant, error in seen.failures] == [("ptq", "the device is gone")] * 2
    assert (seen.comparisons, seen.skips) == ([], [])


def test_a_shadow_that_has_no_answer_is_told_and_not_compared(logarithmic: Bundle) -> None:
    seen = Seen()
    shadow = Shadow(Classifier(logarithmic, "fp32"), 1, seen)
    shadow.offer(Classifier(logarithmic, "ptq").classify(photo("black")))
    shadow.run()
    ((variant, error),) = seen.failures
    assert (variant, type(error)) == ("ptq", NoAnswer)
    assert (seen.comparisons, seen.skips) == ([], [])


def test_how_long_the_one_that_runs_takes_is_told(colours: Bundle) -> None:
    held = HeldShadow(colours)
    shadow, prediction = Shadow(held, 1, Seen()), Classifier(colours, "ptq").classify(photo("red"))
    assert shadow.seconds_left == 0
    least = most = 0.0
    for _ in range(2):
        shadow.offer(prediction)
        other = threading.Thread(target=shadow.run)
        started = time.monotonic()
        other.start()
        assert held.begun.acquire(timeout=60)
        left = shadow.seconds_left
        # As long as the one before took, less what has passed of this one.
        assert least - (time.monotonic() - started) <= left <= most
        least = 0.5
        time.sleep(least)
        held.let.release()
        other.join()
        most = time.monotonic() - started
        assert shadow.seconds_left == 0
