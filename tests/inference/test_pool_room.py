"""Large images that wait for memory to be decoded in, and small ones that don't."""

import threading
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from service.bundle.folder import Bundle
from service.errors import CorruptImage, DeadlineExceeded, QueueFull
from service.images.pixels import Crop
from service.images.room import Granted, Memory, Room
from service.inference.classifier import Classifier, Prediction
from tests.images.encoded import png
from tests.inference.pools import Held, Running, photo, running, top

# A PNG takes 8 bytes a pixel: two large ones do not fit, and small ones take far less than a sixteenth.
LARGE = (400, 300)
LIMIT = 2 * 8 * 400 * 300 - 1


class InRoom(Held):
    """Begins a white image when it is let, and has a large one's memory before."""

    def classify(self, data: bytes, crop: Crop = Crop.BUNDLE, room: Memory | None = None) -> Prediction:
        if data == photo("white"):
            return super().classify(data, crop, room)
        if data != photo("white", LARGE) or room is None:
            return Classifier.classify(self, data, crop, room)
        with room.hold(LIMIT):
            return super().classify(data, crop, None)


def workers(bundle: Bundle, count: int = 2, kind: type[InRoom] = InRoom) -> list[InRoom]:
    first, *others = (kind(bundle) for _ in range(count))
    for other in others:
        other.begun, other.let = first.begun, first.let
    return [first, *others]


def wait_in_line(run: Running, room: Room, count: int) -> None:
    end = time.monotonic() + 60
    while room.waiting < count:
        assert time.monotonic() < end
        time.sleep(0.001)
    assert run.pool.waiting >= count


def test_an_image_that_waits_for_memory_keeps_no_worker_from_small_ones(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run:
        white = run.submit(photo("white", LARGE))
        assert first.begun.acquire(timeout=60)
        large = [run.submit(photo(colour, LARGE)) for colour in ("red", "blue", "green")]
        wait_in_line(run, room, 3)
        # None of them is at work, or so long in work that it looks like a hang.
        assert len(run.pool._busy_since) == 1
        run.pool._seconds_of["ptq"] = 1000
        assert run.pool.wait_seconds == 0
        assert top(run.submit(photo("blue"))) == "blue"
        assert not any(future.done() for future in (white, *large))
        first.let.release()
        assert [top(future) for future in (white, *large)] == ["white", "red", "blue", "green"]
        assert (run.pool.waiting, room.waiting) == (0, 0)


def test_images_that_wait_for_memory_count_for_nothing_in_the_wait_for_a_worker(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run:
        white = run.submit(photo("white", LARGE))
        assert first.begun.acquire(timeout=60)
        large = [run.submit(photo("red", LARGE)) for _ in range(4)]
        wait_in_line(run, room, 4)
        small = run.submit(photo("white"))
        assert first.begun.acquire(timeout=60)
        run.pool._seconds_of["ptq"] = 1000
        # Two in work, for two workers.
        assert run.pool.wait_seconds == 1000
        assert large.pop().cancel()
        assert run.pool.wait_seconds == 1000
        other = run.submit(photo("blue"), seconds=1500)
        assert run.pool.wait_seconds == 1500
        first.let.release(2)
        assert [top(future) for future in (white, small, other)] == ["white", "white", "blue"]
        assert [top(future) for future in large] == ["red"] * 3
    assert run.pool._owed.total() == 0


def test_no_more_wait_for_memory_than_may_wait_however_many_workers_are_idle(colours: Bundle) -> None:
    room, (first, *others) = Room(LIMIT), workers(colours, 4)
    with running(first, *others, room=room, queue_size=2) as run:
        run.submit(photo("white", LARGE))
        assert first.begun.acquire(timeout=60)
        for count in (1, 2):
            large = run.submit(photo("red", LARGE))
            wait_in_line(run, room, count)
        with pytest.raises(QueueFull, match="2 images are already waiting"):
            run.submit(photo("red", LARGE))
        assert large.cancel()
        assert top(run.submit(photo("blue"))) == "blue"


def test_while_images_wait_for_memory_idle_workers_take_others_beside_them(colours: Bundle) -> None:
    room, (first, *others) = Room(LIMIT), workers(colours, 3)
    with running(first, *others, room=room, queue_size=2) as run:
        small = [run.submit(photo("white", LARGE))]
        assert first.begun.acquire(timeout=60)
        run.submit(photo("red", LARGE))
        wait_in_line(run, room, 1)
        # One for each idle worker, and one that waits.
        small += [run.submit(photo("white")) for _ in range(3)]
        with pytest.raises(QueueFull):
            run.submit(photo("white"))
        first.let.release(4)
        assert [top(future) for future in small] == ["white"] * 4


def test_the_wait_for_memory_is_told_as_the_queues(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run:
        run.submit(photo("white", LARGE))
        assert first.begun.acquire(timeout=60)
        large = run.submit(photo("red", LARGE))
        wait_in_line(run, room, 1)
        since = time.monotonic()
        time.sleep(0.3)
        waited = time.monotonic() - since
        first.let.release()
        answer = large.result(60)
        assert answer.queue_seconds >= waited
        assert answer.prediction.decode_seconds < waited


def test_what_waits_for_memory_is_cancelled_like_what_waits_for_a_worker(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run:
        white = run.submit(photo("white", LARGE))
        assert first.begun.acquire(timeout=60)
        gone, kept = (run.submit(photo(colour, LARGE)) for colour in ("red", "blue"))
        wait_in_line(run, room, 2)
        assert gone.cancel()
        assert gone.cancel()
        assert (run.pool.waiting, room.waiting) == (1, 1)
        assert not white.cancel()
        first.let.release()
        assert (top(white), top(kept)) == ("white", "blue")
        assert not kept.cancel()


def test_an_image_whose_deadline_passed_while_it_waited_for_memory_is_not_decoded(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run:
        run.submit(photo("white", LARGE))
        assert first.begun.acquire(timeout=60)
        late, other = run.submit(photo("red", LARGE), seconds=0.5), run.submit(photo("blue", LARGE))
        wait_in_line(run, room, 2)
        time.sleep(0.6)
        first.let.release()
        with pytest.raises(DeadlineExceeded, match="no memory to decode it"):
            late.result(60)
        assert top(other) == "blue"


def test_one_that_was_to_be_cancelled_while_its_header_was_read_does_not_wait(colours: Bundle) -> None:
    room, held = Room(LIMIT), Held(colours)
    with running(held, room=room) as run, room.hold(LIMIT):
        late = run.submit(photo("red", LARGE))
        assert held.begun.acquire(timeout=60)
        assert not late.cancel()
        held.let.release()
        with pytest.raises(DeadlineExceeded):
            late.result(60)
        assert (run.pool.waiting, room.waiting, run.pool.wait_seconds) == (0, 0, 0)


class Together(InRoom):
    """Decodes an image that waited for memory only while another such one is decoded."""

    both = threading.Barrier(2)

    def classify(self, data: bytes, crop: Crop = Crop.BUNDLE, room: Memory | None = None) -> Prediction:
        if isinstance(room, Granted):
            self.both.wait(10)
        return super().classify(data, crop, room)


def test_of_those_in_line_as_many_are_decoded_at_once_as_fit(colours: Bundle) -> None:
    room, classifiers = Room(LIMIT), workers(colours, 3, Together)
    with running(*classifiers, room=room) as run:
        run.submit(photo("white", LARGE))
        assert classifiers[0].begun.acquire(timeout=60)
        middle = [run.submit(photo(colour, (200, 300))) for colour in ("red", "blue")]
        wait_in_line(run, room, 2)
        classifiers[0].let.release()
        assert [top(future) for future in middle] == ["red", "blue"]


def test_who_leaves_the_line_lets_the_next_one_in(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run, room.hold(LIMIT // 2):
        large = run.submit(photo("white", (400, 301)))
        wait_in_line(run, room, 1)
        middle = run.submit(photo("red", (200, 300)))
        wait_in_line(run, room, 2)
        assert large.cancel()
        assert top(middle) == "red"


def test_a_damaged_image_gives_back_the_memory_that_it_waited_for(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run:
        run.submit(photo("white", LARGE))
        assert first.begun.acquire(timeout=60)
        width, height = LARGE
        # Only decoding it shows that it lacks its last rows.
        damaged = run.submit(png(width, height, bytes((3 * width + 1) * (height - 1))))
        whole = run.submit(photo("blue", LARGE))
        wait_in_line(run, room, 2)
        first.let.release()
        with pytest.raises(CorruptImage):
            damaged.result(60)
        assert top(whole) == "blue"
        with room.hold(LIMIT):
            pass


class HeldDecoded(Held):
    """Runs its model on a decoded image only when it is let."""

    def classify(self, data: bytes, crop: Crop = Crop.BUNDLE, room: Memory | None = None) -> Prediction:
        return Classifier.classify(self, data, crop, room)

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.begun.release()
        assert self.let.acquire(timeout=60)
        return super().probabilities(pixels)


def test_an_image_that_waited_for_memory_gives_it_back_once_it_is_decoded(colours: Bundle) -> None:
    room, held = Room(LIMIT), HeldDecoded(colours)
    with running(held, room=room) as run:
        with room.hold(LIMIT):
            large = run.submit(photo("red", LARGE))
            wait_in_line(run, room, 1)
        # Nothing else has the worker, which is idle, look who waits.
        assert held.begun.acquire(timeout=60)
        assert room._taken == 0
        held.let.release()
        assert top(large) == "red"


def test_closing_finishes_what_waits_for_memory(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run:
        run.submit(photo("white", LARGE))
        assert first.begun.acquire(timeout=60)
        large = [run.submit(photo(colour, LARGE)) for colour in ("red", "blue")]
        wait_in_line(run, room, 2)
    assert [top(future) for future in large] == ["red", "blue"]
