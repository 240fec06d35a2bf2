import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from service.bundle import Bundle
from service.errors import CorruptImage, QueueFull, UnsupportedImage
from service.inference.classifier import Classifier, Prediction
from service.inference.image import Crop
from service.inference.pool import Answer, Pool
from tests.colours import LABELS_OF, RGB


def photo(colour: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", (40, 30), RGB[colour]).save(file, "PNG")
    return file.getvalue()


class Held(Classifier):
    """A classifier that begins each image only when it is let."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, "ptq")
        self.begun = threading.Semaphore(0)
        self.let = threading.Semaphore(0)
        self.images = 0

    def classify(self, data: bytes, crop: Crop = Crop.BUNDLE) -> Prediction:
        self.begun.release()
        self.let.acquire()
        self.images += 1
        return super().classify(data, crop)


@contextmanager
def running(*classifiers: Classifier, queue_size: int = 100) -> Iterator[Pool]:
    pool = Pool(classifiers, queue_size)
    try:
        yield pool
    finally:
        for classifier in classifiers:
            if isinstance(classifier, Held):
                classifier.let.release(1000)
        pool.close()


def top(future: Future[Answer]) -> str:
    return LABELS_OF[future.result(10).prediction.top(1)[0][0]]


def test_each_image_gets_its_own_answer_from_many_workers(colours: Bundle) -> None:
    asked = [*RGB] * 20
    with running(*(Classifier(colours, "ptq") for _ in range(3))) as pool:
        assert pool.workers == 3
        futures = [pool.submit(photo(colour), Crop.BUNDLE) for colour in asked]
        assert [top(future) for future in futures] == asked


def test_an_answer_is_what_the_classifier_says(colours: Bundle) -> None:
    classifier = Classifier(colours, "fp32")
    with running(classifier) as pool:
        prediction = pool.submit(photo("red"), Crop.NONE).result(10).prediction
    expected = classifier.classify(photo("red"), Crop.NONE)
    assert np.array_equal(prediction.probabilities, expected.probabilities)
    assert prediction.variant == "fp32"


def test_an_image_that_finds_no_place_is_refused(colours: Bundle) -> None:
    held = Held(colours)
    with running(held, queue_size=2) as pool:
        first = pool.submit(photo("red"), Crop.BUNDLE)
        assert held.begun.acquire(timeout=10)
        waiting = [pool.submit(photo(colour), Crop.BUNDLE) for colour in ("blue", "green")]
        assert pool.waiting == 2
        with pytest.raises(QueueFull, match="2 images wait") as caught:
            pool.submit(photo("white"), Crop.BUNDLE)
        assert caught.value.retry_after_seconds == 1
        held.let.release(3)
        assert [top(future) for future in (first, *waiting)] == ["red", "blue", "green"]
        assert pool.waiting == 0


def test_the_waiting_time_is_told_and_measured(colours: Bundle) -> None:
    held = Held(colours)
    with running(held, queue_size=3) as pool:
        first = pool.submit(photo("red"), Crop.BUNDLE)
        assert held.begun.acquire(timeout=10)
        second = pool.submit(photo("red"), Crop.BUNDLE)
        time.sleep(0.6)
        held.let.release()
        first.result(10)
        assert held.begun.acquire(timeout=10)
        for _ in range(3):
            pool.submit(photo("red"), Crop.BUNDLE)
        with pytest.raises(QueueFull) as caught:
            pool.submit(photo("red"), Crop.BUNDLE)
        # One in work and three that wait, 0.6 seconds or more each.
        assert caught.value.retry_after_seconds is not None
        assert caught.value.retry_after_seconds >= 3
        held.let.release(4)
        assert second.result(10).queue_seconds >= 0.6


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(b"no image", UnsupportedImage, id="unsupported"),
        pytest.param(photo("red")[:50], CorruptImage, id="truncated"),
    ],
)
def test_errors_come_through_and_the_worker_goes_on(
    colours: Bundle, data: bytes, error: type[Exception]
) -> None:
    with running(Classifier(colours, "ptq")) as pool:
        with pytest.raises(error):
            pool.submit(data, Crop.BUNDLE).result(10)
        assert top(pool.submit(photo("blue"), Crop.BUNDLE)) == "blue"


def test_what_was_cancelled_while_it_waited_is_not_worked_on(colours: Bundle) -> None:
    held = Held(colours)
    with running(held) as pool:
        first = pool.submit(photo("red"), Crop.BUNDLE)
        assert held.begun.acquire(timeout=10)
        second, third = (pool.submit(photo("blue"), Crop.BUNDLE) for _ in range(2))
        assert second.cancel()
        held.let.release(3)
        assert top(first) == "red"
        assert top(third) == "blue"
        assert held.images == 2


def test_closing_finishes_what_is_queued(colours: Bundle) -> None:
    held = Held(colours)
    with running(held) as pool:
        futures = [pool.submit(photo(colour), Crop.BUNDLE) for colour in RGB]
    assert all(future.done() for future in futures)
    assert [top(future) for future in futures] == [*RGB]
