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
from tests.api.running import photo
from tests.colours import RGB
from tests.inference.pools import Gated, running, top


def test_each_image_gets_its_own_answer_from_many_workers(colours: Bundle) -> None:
    expected = [*RGB] * 20
    with running(*(Classifier(colours, "ptq") for _ in range(3))) as run:
        assert run.pool.workers == 3
        futures = [run.submit(photo(colour)) for colour in expected]
        assert [top(future) for future in futures] == expected


def test_an_answer_equals_that_of_the_classifier(colours: Bundle) -> None:
    classifier = Classifier(colours, "fp32")
    with running(classifier) as run:
        prediction = run.submit(photo("red"), Crop.NONE).result(60).prediction
    expected = classifier.classify(photo("red"), Crop.NONE)
    assert np.array_equal(prediction.probabilities, expected.probabilities)
    assert prediction.variant == "fp32"


def test_an_image_is_refused_if_the_queue_is_full(colours: Bundle) -> None:
    gated = Gated(colours)
    with running(gated, queue_size=2) as run:
        first = run.submit(photo("red"))
        assert gated.started.acquire(timeout=60)
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
        gated.gate.release(3)
        assert [top(future) for future in (first, *waiting)] == ["red", "blue", "green"]
        assert run.pool.waiting == 0


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(b"no image", UnsupportedImage, id="unsupported"),
        pytest.param(photo("red")[:50], CorruptImage, id="truncated"),
    ],
)
def test_errors_are_passed_on_and_the_worker_continues(
    colours: Bundle, data: bytes, error: type[Exception]
) -> None:
    with running(Classifier(colours, "ptq")) as run:
        with pytest.raises(error):
            run.submit(data).result(60)
        assert top(run.submit(photo("blue"))) == "blue"


def test_an_image_with_an_error_is_freed_without_garbage_collection(colours: Bundle) -> None:
    with running(Classifier(colours, "ptq")) as run:
        gc.disable()
        try:
            future = run.submit(b"no image")
            assert isinstance(future.exception(60), UnsupportedImage)
            reference = weakref.ref(future)
            del future
            # The worker has finished an image only when it has the next one.
            assert top(run.submit(photo("blue"))) == "blue"
            assert reference() is None
        finally:
            gc.enable()


def test_an_image_cancelled_while_it_waits_is_not_classified(colours: Bundle) -> None:
    gated = Gated(colours)
    with running(gated) as run:
        first = run.submit(photo("red"))
        assert gated.started.acquire(timeout=60)
        second, third = (run.submit(photo("blue")) for _ in range(2))
        assert second.cancel()
        gated.gate.release(3)
        assert top(first) == "red"
        assert top(third) == "blue"
        assert gated.images == 2


def test_closing_finishes_queued_images(colours: Bundle) -> None:
    gated = Gated(colours)
    with running(gated) as run:
        futures = [run.submit(photo(colour)) for colour in RGB]
    assert all(future.done() for future in futures)
    assert [top(future) for future in futures] == [*RGB]


def test_the_queue_is_limited_in_bytes(colours: Bundle) -> None:
    gated, image = Gated(colours), photo("red")
    with running(gated, queue_bytes=2 * len(image)) as run:
        first = run.submit(image)
        assert gated.started.acquire(timeout=60)
        waiting = [run.submit(image) for _ in range(2)]
        refusals: list[int] = []
        run.pool.on_full = lambda: refusals.append(run.pool.waiting)
        with pytest.raises(QueueFull, match=f"2 images with {2 * len(image)} bytes are already waiting"):
            run.submit(photo("blue"))
        assert refusals == [2]
        gated.gate.release(3)
        assert [top(future) for future in (first, *waiting)] == ["red"] * 3
        gated.gate.release()
        assert top(run.submit(photo("blue"))) == "blue"


def test_an_image_that_can_never_be_queued_has_no_retry_after(colours: Bundle) -> None:
    image = photo("red")
    with (
        running(Gated(colours), queue_bytes=len(image) - 1) as run,
        pytest.raises(BodyTooLarge, match=f"has {len(image)} bytes of images; the queue holds") as caught,
    ):
        run.submit(image)
    assert caught.value.retry_after_seconds is None


def test_several_images_are_all_accepted_or_all_refused(colours: Bundle) -> None:
    gated, image = Gated(colours), photo("red")
    with running(gated, queue_size=4, queue_bytes=3 * len(image)) as run:
        run.pool._seconds_of["ptq"] = 600
        # The second one would begin within 1000 seconds, the third one would not.
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


def test_a_cancelled_image_frees_its_place_at_once(colours: Bundle) -> None:
    gated, image = Gated(colours), photo("red")
    with running(gated, queue_size=2, queue_bytes=2 * len(image)) as run:
        first = run.submit(image)
        assert gated.started.acquire(timeout=60)
        for _ in range(3):
            waiting = [run.submit(image), run.submit(image)]
            with pytest.raises(QueueFull):
                run.submit(image)
            assert all(future.cancel() and future.cancel() for future in waiting)
            assert run.pool.waiting == 0
        last = run.submit(image)
        assert not first.cancel()
        gated.gate.release(2)
        assert (top(first), top(last)) == ("red", "red")
        assert gated.images == 2
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


def test_a_limit_on_threads_is_reported() -> None:
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", NO_THREADS], capture_output=True, text=True, check=True, timeout=60
    )
    assert re.fullmatch(
        r"the system lets this process start only [1-9]\d? of 64 workers, .* lower, or raise the limit 1\n",
        result.stdout,
    )


def test_an_image_as_large_as_the_queue_is_told_to_come_again(colours: Bundle) -> None:
    gated, image = Gated(colours), photo("red")
    with running(gated, queue_bytes=len(image)) as run:
        working = run.submit(image)
        assert gated.started.acquire(timeout=60)
        waiting = run.submit(image)
        with pytest.raises(QueueFull) as caught:
            run.submit(image)
        assert caught.value.retry_after_seconds == 1
        gated.gate.release(2)
        assert [top(working), top(waiting)] == ["red"] * 2
