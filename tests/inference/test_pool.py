import gc
import re
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest

from service.bundle.folder import Bundle
from service.errors import (
    BatchTooLarge,
    BodyTooLarge,
    CorruptImage,
    QueueFull,
    UnsupportedImage,
    WaitTooLong,
)
from service.images.pixels import Crop
from service.inference.classifier import Classifier
from service.inference.job import Job
from tests.colours import RGB
from tests.inference.pools import Held, photo, running, top


def test_each_image_gets_its_own_answer_from_many_workers(colours: Bundle) -> None:
    asked = [*RGB] * 20
    with running(*(Classifier(colours, "ptq") for _ in range(3))) as run:
        assert run.pool.workers == 3
        futures = [run.submit(photo(colour)) for colour in asked]
        assert [top(future) for future in futures] == asked


def test_an_answer_is_what_the_classifier_says(colours: Bundle) -> None:
    classifier = Classifier(colours, "fp32")
    with running(classifier) as run:
        prediction = run.submit(photo("red"), Crop.NONE).result(60).prediction
    expected = classifier.classify(photo("red"), Crop.NONE)
    assert np.array_equal(prediction.probabilities, expected.probabilities)
    assert prediction.variant == "fp32"


def test_an_image_that_finds_no_place_is_refused(colours: Bundle) -> None:
    held = Held(colours)
    with running(held, queue_size=2) as run:
        first = run.submit(photo("red"))
        assert held.begun.acquire(timeout=60)
        waiting = [run.submit(photo(colour)) for colour in ("blue", "green")]
        assert run.pool.waiting == 2
        refusals: list[int] = []
        run.pool.on_full = lambda: refusals.append(run.pool.waiting)
        with pytest.raises(QueueFull, match="2 images are already waiting") as caught:
            run.submit(photo("white"))
        assert caught.value.retry_after_seconds == 1
        with pytest.raises(QueueFull):
            run.pool.check(time.monotonic() + 60)
        assert refusals == [2, 2]
        held.let.release(3)
        assert [top(future) for future in (first, *waiting)] == ["red", "blue", "green"]
        assert run.pool.waiting == 0


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
            run.submit(data).result(60)
        assert top(run.submit(photo("blue"))) == "blue"


def test_an_image_with_an_error_does_not_wait_for_the_garbage_collection(colours: Bundle) -> None:
    with running(Classifier(colours, "ptq")) as run:
        gc.disable()
        try:
            future = run.submit(b"no image")
            assert isinstance(future.exception(60), UnsupportedImage)
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
        assert held.begun.acquire(timeout=60)
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
        assert held.begun.acquire(timeout=60)
        waiting = [run.submit(image) for _ in range(2)]
        with pytest.raises(QueueFull, match=f"2 images with {2 * len(image)} bytes are already waiting"):
            run.submit(photo("blue"))
        held.let.release(3)
        assert [top(future) for future in (first, *waiting)] == ["red"] * 3
        held.let.release()
        assert top(run.submit(photo("blue"))) == "blue"


def test_an_image_that_never_finds_memory_is_not_told_to_come_again(colours: Bundle) -> None:
    image = photo("red")
    with (
        running(Held(colours), queue_bytes=len(image) - 1) as run,
        pytest.raises(BodyTooLarge, match=f"has {len(image)} bytes of images; the queue holds") as caught,
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
        with pytest.raises(BatchTooLarge, match="5 images; the queue holds at most 4"):
            run.pool.check(deadline + 1000, jobs)
        assert run.pool.waiting == 0


def test_what_is_cancelled_gives_its_place_to_others_at_once(colours: Bundle) -> None:
    held, image = Held(colours), photo("red")
    with running(held, queue_size=2, queue_bytes=2 * len(image)) as run:
        first = run.submit(image)
        assert held.begun.acquire(timeout=60)
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
        r"the system lets this process start only [1-9]\d? of 64 workers, .* lower, or raise the limit 1\n",
        ended.stdout,
    )
