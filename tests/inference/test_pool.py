import gc
import re
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from service.bundle.folder import Bundle
from service.errors import (
    BatchTooLarge,
    BodyTooLarge,
    CorruptImage,
    DeadlineExceeded,
    QueueFull,
    UnsupportedImage,
    WaitTooLong,
)
from service.images.pixels import Crop
from service.inference.classifier import Classifier, Prediction
from service.inference.pool import Answer, Job, Pool
from service.inference.shadow import Shadow
from service.inference.variants import LoadedVariant
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


def held_pair(bundle: Bundle) -> tuple[Held, Held]:
    """Two for a pool of two workers, so that it does not matter which of them takes an image."""
    first, second = Held(bundle), Held(bundle)
    second.begun, second.let = first.begun, first.let
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
    shadow: Shadow | None = None,
) -> Iterator[Running]:
    pool = Pool(len(classifiers), queue_size=queue_size, queue_bytes=queue_bytes, shadow=shadow)
    try:
        yield Running(pool, LoadedVariant(classifiers[0].variant, classifiers))
    finally:
        for classifier in classifiers:
            if isinstance(classifier, Held):
                classifier.let.release(1000)
        pool.close()


def top(future: Future[Answer]) -> str:
    return LABELS_OF[future.result(10).prediction.top(1)[0][0]]


def test_each_image_gets_its_own_answer_from_many_workers(colours: Bundle) -> None:
    asked = [*RGB] * 20
    with running(*(Classifier(colours, "ptq") for _ in range(3))) as run:
        assert run.pool.workers == 3
        futures = [run.submit(photo(colour)) for colour in asked]
        assert [top(future) for future in futures] == asked


def test_an_answer_is_what_the_classifier_says(colours: Bundle) -> None:
    classifier = Classifier(colours, "fp32")
    with running(classifier) as run:
        prediction = run.submit(photo("red"), Crop.NONE).result(10).prediction
    expected = classifier.classify(photo("red"), Crop.NONE)
    assert np.array_equal(prediction.probabilities, expected.probabilities)
    assert prediction.variant == "fp32"


def test_an_image_that_finds_no_place_is_refused(colours: Bundle) -> None:
    held = Held(colours)
    with running(held, queue_size=2) as run:
        first = run.submit(photo("red"))
        assert held.begun.acquire(timeout=10)
        waiting = [run.submit(photo(colour)) for colour in ("blue", "green")]
        assert run.pool.waiting == 2
        refusals: list[int] = []
        run.pool.on_full = lambda: refusals.append(run.pool.waiting)
        with pytest.raises(QueueFull, match="2 images wait") as caught:
            run.submit(photo("white"))
        assert caught.value.retry_after_seconds == 1
        with pytest.raises(QueueFull):
            run.pool.check(time.monotonic() + 60)
        assert refusals == [2, 2]
        held.let.release(3)
        assert [top(future) for future in (first, *waiting)] == ["red", "blue", "green"]
        assert run.pool.waiting == 0


def test_the_waiting_time_is_told_and_measured(colours: Bundle) -> None:
    held = Held(colours)
    with running(held, queue_size=3) as run:
        first = run.submit(photo("red"))
        assert held.begun.acquire(timeout=10)
        second = run.submit(photo("red"))
        time.sleep(0.6)
        held.let.release()
        first.result(10)
        assert held.begun.acquire(timeout=10)
        for _ in range(3):
            run.submit(photo("red"))
        with pytest.raises(QueueFull) as caught:
            run.submit(photo("red"))
        # One in work and three that wait, 0.6 seconds or more each.
        assert caught.value.retry_after_seconds is not None
        assert caught.value.retry_after_seconds >= 3
        held.let.release(4)
        assert second.result(10).queue_seconds >= 0.6


def test_several_workers_share_what_waits(colours: Bundle) -> None:
    with running(*held_pair(colours)) as run:
        run.pool._seconds_of["ptq"] = 1000
        for _ in range(4):
            run.submit(photo("red"), seconds=10_000)
        assert run.pool.wait_seconds == 2000
        # The third of these waits for four others and for two of its own.
        now = time.monotonic()
        jobs = [Job(run.variant, photo("red"), Crop.BUNDLE, now)] * 3
        run.pool.check(now + 3500, jobs)
        run.pool.on_full = lambda: pytest.fail("there is a place for each")
        with pytest.raises(WaitTooLong, match="in about 3e\\+03 seconds"):
            run.pool.check(now + 2500, jobs)


def test_each_image_changes_a_little_of_what_one_is_expected_to_take(colours: Bundle) -> None:
    held = Held(colours)
    with running(held) as run:
        run.pool._seconds_of["ptq"] = 1000
        first = run.submit(photo("red"))
        assert held.begun.acquire(timeout=10)
        held.let.release()
        assert top(first) == "red"
        # The worker is done with it when it has the next one.
        run.submit(photo("red"), seconds=10_000)
        assert held.begun.acquire(timeout=10)
        assert run.pool.wait_seconds == pytest.approx(900, abs=5)


def test_an_image_that_is_too_late_tells_nothing_of_what_one_takes(colours: Bundle) -> None:
    held = Held(colours)
    with running(held) as run:
        run.pool._seconds_of["ptq"] = 1000
        with pytest.raises(DeadlineExceeded):
            run.submit(photo("red"), seconds=-1).result(10)
        # The worker is done with it when it has the next one.
        run.submit(photo("red"), seconds=10_000)
        assert held.begun.acquire(timeout=10)
        assert run.pool.wait_seconds == 1000


def test_the_image_longest_in_work_is_told_whatever_others_do(colours: Bundle) -> None:
    first, second = held_pair(colours)
    with running(first, second) as run:
        assert run.pool.oldest_since is None
        run.submit(photo("red"))
        assert first.begun.acquire(timeout=10)
        oldest = run.pool.oldest_since
        assert oldest is not None
        run.submit(photo("red"))
        assert first.begun.acquire(timeout=10)
        assert run.pool.oldest_since == oldest


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
    with running(Classifier(colours, "ptq")) as run:
        with pytest.raises(error):
            run.submit(data).result(10)
        assert top(run.submit(photo("blue"))) == "blue"


def test_an_image_with_an_error_does_not_wait_for_the_garbage_collection(colours: Bundle) -> None:
    with running(Classifier(colours, "ptq")) as run:
        gc.disable()
        try:
            future = run.submit(b"no image")
            assert isinstance(future.exception(10), UnsupportedImage)
            gone = weakref.ref(future)
            del future
            # The worker is done with it when it has the next one.
            assert top(run.submit(photo("blue"))) == "blue"
            assert gone() is None
        finally:
            gc.enable()


def test_what_was_cancelled_while_it_waited_is_not_worked_on(colours: Bundle) -> None:
    held = Held(colours)
    with running(held) as run:
        first = run.submit(photo("red"))
        assert held.begun.acquire(timeout=10)
        second, third = (run.submit(photo("blue")) for _ in range(2))
        assert second.cancel()
        held.let.release(3)
        assert top(first) == "red"
        assert top(third) == "blue"
        assert held.images == 2


def test_closing_finishes_what_is_queued(colours: Bundle) -> None:
    held = Held(colours)
    with running(held) as run:
        futures = [run.submit(photo(colour)) for colour in RGB]
    assert all(future.done() for future in futures)
    assert [top(future) for future in futures] == [*RGB]


def test_what_waits_is_bounded_in_bytes(colours: Bundle) -> None:
    held, image = Held(colours), photo("red")
    with running(held, queue_bytes=2 * len(image)) as run:
        first = run.submit(image)
        assert held.begun.acquire(timeout=10)
        waiting = [run.submit(image) for _ in range(2)]
        with pytest.raises(QueueFull, match=f"2 images of {2 * len(image)} bytes wait already"):
            run.submit(photo("blue"))
        held.let.release(3)
        assert [top(future) for future in (first, *waiting)] == ["red"] * 3
        held.let.release()
        assert top(run.submit(photo("blue"))) == "blue"


def test_an_image_that_never_finds_memory_is_not_told_to_come_again(colours: Bundle) -> None:
    image = photo("red")
    with (
        running(Held(colours), queue_bytes=len(image) - 1) as run,
        pytest.raises(BodyTooLarge, match=f"has {len(image)} bytes to work on, more than all") as caught,
    ):
        run.submit(image)
    assert caught.value.retry_after_seconds is None


def test_of_several_images_all_find_places_memory_and_time_or_none_does(colours: Bundle) -> None:
    held, image = Held(colours), photo("red")
    with running(held, queue_size=4, queue_bytes=3 * len(image)) as run:
        run.pool._seconds_of["ptq"] = 600
        # The second one is begun within 1000 seconds, the third is not.
        deadline = time.monotonic() + 1000
        jobs = [Job(run.variant, image, Crop.BUNDLE, deadline)] * 5
        run.pool.check(deadline, jobs[:2])
        with pytest.raises(WaitTooLong):
            run.pool.check(deadline, jobs[:3])
        with pytest.raises(BodyTooLarge):
            run.pool.check(deadline + 1000, jobs[:4])
        with pytest.raises(BatchTooLarge, match="5 images; the most that may wait are 4"):
            run.pool.check(deadline + 1000, jobs)
        assert run.pool.waiting == 0


def test_what_is_cancelled_gives_its_place_to_others_at_once(colours: Bundle) -> None:
    held, image = Held(colours), photo("red")
    with running(held, queue_size=2, queue_bytes=2 * len(image)) as run:
        first = run.submit(image)
        assert held.begun.acquire(timeout=10)
        for _ in range(3):
            waiting = [run.submit(image), run.submit(image)]
            with pytest.raises(QueueFull):
                run.submit(image)
            assert all(future.cancel() and future.cancel() for future in waiting)
            assert run.pool.waiting == 0
        last = run.submit(image)
        assert not first.cancel()
        held.let.release(2)
        assert (top(first), top(last)) == ("red", "red")
        assert held.images == 2
        assert run.pool.wait_seconds == 0


def test_an_image_whose_deadline_passed_while_it_waited_is_not_worked_on(colours: Bundle) -> None:
    held = Held(colours)
    with running(held) as run:
        first = run.submit(photo("red"))
        assert held.begun.acquire(timeout=10)
        second, third = run.submit(photo("blue"), seconds=0.05), run.submit(photo("green"))
        time.sleep(0.1)
        held.let.release(3)
        with pytest.raises(DeadlineExceeded) as caught:
            second.result(10)
        (seconds,) = re.findall(r"no worker was free within the (\S+) seconds it had", str(caught.value))
        assert float(seconds) >= 0.1
        assert (top(first), top(third)) == ("red", "green")
        assert held.images == 2


def test_an_image_that_would_wait_beyond_its_deadline_is_refused(colours: Bundle) -> None:
    held = Held(colours)
    with running(held) as run:
        run.pool._seconds_of["ptq"] = 500
        first = run.submit(photo("red"))
        assert held.begun.acquire(timeout=10)
        with pytest.raises(WaitTooLong, match="a worker is free in about 500 seconds") as caught:
            run.submit(photo("blue"), seconds=400)
        assert caught.value.retry_after_seconds == 500
        second = run.submit(photo("green"), seconds=1000)
        held.let.release(2)
        assert (top(first), top(second)) == ("red", "green")


def test_where_a_worker_is_free_there_is_no_wait(colours: Bundle) -> None:
    first, second = held_pair(colours)
    with running(first, second) as run:
        run.pool._seconds_of["ptq"] = 1000
        busy = run.submit(photo("red"))
        # One of two works, for 1000 seconds as it seems; the other one is free.
        assert run.pool.wait_seconds == 0
        hasty = run.submit(photo("blue"), seconds=60)
        first.let.release(2)
        assert (top(busy), top(hasty)) == ("red", "blue")


def test_the_time_at_work_is_told_while_it_passes(colours: Bundle) -> None:
    held = Held(colours)
    with running(held) as run:
        time.sleep(0.2)
        assert run.pool.busy_seconds == 0
        first = run.submit(photo("red"))
        assert held.begun.acquire(timeout=10)
        time.sleep(0.2)
        before = run.pool.busy_seconds
        assert before >= 0.2
        held.let.release()
        first.result(10)
        # The worker is done with it when it has the next one.
        second = run.submit(photo("red"))
        assert held.begun.acquire(timeout=10)
        held.let.release()
        second.result(10)
        assert run.pool.busy_seconds >= before


NO_THREADS = """
import resource, threading
from service.errors import StartError
from service.inference.pool import Pool

threading.stack_size(1 << 28)
resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
try:
    Pool(64, queue_size=1, queue_bytes=1)
except StartError as error:
    print(error, threading.active_count())
"""


def test_a_system_that_lets_no_more_threads_start_is_told() -> None:
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", NO_THREADS], capture_output=True, text=True, check=True, timeout=60
    )
    assert re.fullmatch(
        r"the system lets this process start [1-9]\d? of 64 workers, .* fewer, or raise the limit 1\n",
        ended.stdout,
    )
