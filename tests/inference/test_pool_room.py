"""Large images that wait for memory to be decoded, and small ones that do not."""

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
from tests.api.running import photo
from tests.images.encoded import png
from tests.inference.pools import Gated, Running, running, top
from tests.system.processes import wait_for

# A PNG takes 8 bytes a pixel: two large ones do not fit, and small ones take far less than a sixteenth.
LARGE = (400, 300)
LIMIT = 2 * 8 * 400 * 300 - 1


class GatedWhite(Gated):
    """Waits at the gate before a white image, and takes the memory of a large one before that."""

    def classify(self, data: bytes, crop: Crop = Crop.BUNDLE, room: Memory | None = None) -> Prediction:
        if data == photo("white"):
            return super().classify(data, crop, room)
        if data != photo("white", size=LARGE) or room is None:
            return Classifier.classify(self, data, crop, room)
        with room.hold(LIMIT):
            return super().classify(data, crop, None)


def workers(bundle: Bundle, count: int = 2, kind: type[GatedWhite] = GatedWhite) -> list[GatedWhite]:
    first, *others = (kind(bundle) for _ in range(count))
    for other in others:
        other.started, other.gate = first.started, first.gate
    return [first, *others]


def wait_in_line(run: Running, room: Room, count: int) -> None:
    wait_for(lambda: room.waiting >= count)
    assert run.pool.waiting >= count


def test_an_image_that_waits_for_memory_keeps_no_worker_busy(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run:
        white = run.submit(photo("white", size=LARGE))
        assert first.started.acquire(timeout=60)
        large = [run.submit(photo(colour, size=LARGE)) for colour in ("red", "blue", "green")]
        wait_in_line(run, room, 3)
        # None of them counts as being classified, which would look like a hang after a while.
        assert len(run.pool._busy_since) == 1
        run.pool._seconds_of["ptq"] = 1000
        assert run.pool.wait_seconds == 0
        assert top(run.submit(photo("blue"))) == "blue"
        assert not any(future.done() for future in (white, *large))
        first.gate.release()
        assert [top(future) for future in (white, *large)] == ["white", "red", "blue", "green"]
        assert (run.pool.waiting, room.waiting) == (0, 0)


def test_images_that_wait_for_memory_do_not_add_to_the_wait_for_a_worker(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run:
        white = run.submit(photo("white", size=LARGE))
        assert first.started.acquire(timeout=60)
        large = [run.submit(photo("red", size=LARGE)) for _ in range(4)]
        wait_in_line(run, room, 4)
        small = run.submit(photo("white"))
        assert first.started.acquire(timeout=60)
        run.pool._seconds_of["ptq"] = 1000
        # Two are being classified, by two workers.
        assert run.pool.wait_seconds == 1000
        assert large.pop().cancel()
        assert run.pool.wait_seconds == 1000
        other = run.submit(photo("blue"), seconds=1500)
        assert run.pool.wait_seconds == 1500
        first.gate.release(2)
        assert [top(future) for future in (white, small, other)] == ["white", "white", "blue"]
        assert [top(future) for future in large] == ["red"] * 3
    assert run.pool._owed.total() == 0


def test_images_that_wait_for_memory_count_against_the_queue_size(colours: Bundle) -> None:
    room, (first, *others) = Room(LIMIT), workers(colours, 4)
    with running(first, *others, room=room, queue_size=2) as run:
        run.submit(photo("white", size=LARGE))
        assert first.started.acquire(timeout=60)
        for count in (1, 2):
            large = run.submit(photo("red", size=LARGE))
            wait_in_line(run, room, count)
        with pytest.raises(QueueFull, match="2 images are already waiting"):
            run.submit(photo("red", size=LARGE))
        assert large.cancel()
        assert top(run.submit(photo("blue"))) == "blue"


def test_idle_workers_take_other_images_while_some_wait_for_memory(colours: Bundle) -> None:
    room, (first, *others) = Room(LIMIT), workers(colours, 3)
    with running(first, *others, room=room, queue_size=2) as run:
        small = [run.submit(photo("white", size=LARGE))]
        assert first.started.acquire(timeout=60)
        run.submit(photo("red", size=LARGE))
        wait_in_line(run, room, 1)
        # One for each idle worker, and one that waits.
        small += [run.submit(photo("white")) for _ in range(3)]
        with pytest.raises(QueueFull):
            run.submit(photo("white"))
        first.gate.release(4)
        assert [top(future) for future in small] == ["white"] * 4


def test_the_wait_for_memory_counts_as_time_in_the_queue(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run:
        run.submit(photo("white", size=LARGE))
        assert first.started.acquire(timeout=60)
        large = run.submit(photo("red", size=LARGE))
        wait_in_line(run, room, 1)
        since = time.monotonic()
        time.sleep(0.3)
        waited = time.monotonic() - since
        first.gate.release()
        answer = large.result(60)
        assert answer.queue_seconds >= waited
        assert answer.prediction.decode_seconds < waited


def test_an_image_that_waits_for_memory_can_be_cancelled(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run:
        white = run.submit(photo("white", size=LARGE))
        assert first.started.acquire(timeout=60)
        cancelled, kept = (run.submit(photo(colour, size=LARGE)) for colour in ("red", "blue"))
        wait_in_line(run, room, 2)
        assert cancelled.cancel()
        assert cancelled.cancel()
        assert (run.pool.waiting, room.waiting) == (1, 1)
        assert not white.cancel()
        first.gate.release()
        assert (top(white), top(kept)) == ("white", "blue")
        assert not kept.cancel()


def test_an_image_that_waits_for_memory_past_its_deadline_is_not_decoded(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run:
        run.submit(photo("white", size=LARGE))
        assert first.started.acquire(timeout=60)
        late, other = run.submit(photo("red", size=LARGE), seconds=0.5), run.submit(photo("blue", size=LARGE))
        wait_in_line(run, room, 2)
        time.sleep(0.6)
        first.gate.release()
        with pytest.raises(DeadlineExceeded, match="no memory to decode it"):
            late.result(60)
        assert top(other) == "blue"


def test_an_image_cancelled_while_its_header_is_read_does_not_wait(colours: Bundle) -> None:
    room, gated = Room(LIMIT), Gated(colours)
    with running(gated, room=room) as run, room.hold(LIMIT):
        late = run.submit(photo("red", size=LARGE))
        assert gated.started.acquire(timeout=60)
        assert not late.cancel()
        gated.gate.release()
        with pytest.raises(DeadlineExceeded):
            late.result(60)
        assert (run.pool.waiting, room.waiting, run.pool.wait_seconds) == (0, 0, 0)


class Together(GatedWhite):
    """Decodes an image that waited for memory only while another such one is decoded."""

    both = threading.Barrier(2)

    def classify(self, data: bytes, crop: Crop = Crop.BUNDLE, room: Memory | None = None) -> Prediction:
        if isinstance(room, Granted):
            self.both.wait(10)
        return super().classify(data, crop, room)


def test_as_many_waiting_images_as_fit_are_decoded_at_once(colours: Bundle) -> None:
    room, classifiers = Room(LIMIT), workers(colours, 3, Together)
    with running(*classifiers, room=room) as run:
        run.submit(photo("white", size=LARGE))
        assert classifiers[0].started.acquire(timeout=60)
        middle = [run.submit(photo(colour, size=(200, 300))) for colour in ("red", "blue")]
        wait_in_line(run, room, 2)
        classifiers[0].gate.release()
        assert [top(future) for future in middle] == ["red", "blue"]


def test_leaving_the_line_lets_the_next_one_in(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run, room.hold(LIMIT // 2):
        large = run.submit(photo("white", size=(400, 301)))
        wait_in_line(run, room, 1)
        middle = run.submit(photo("red", size=(200, 300)))
        wait_in_line(run, room, 2)
        assert large.cancel()
        assert top(middle) == "red"


def test_a_damaged_image_gives_back_the_memory_that_it_waited_for(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run:
        run.submit(photo("white", size=LARGE))
        assert first.started.acquire(timeout=60)
        width, height = LARGE
        # Only decoding it shows that it lacks its last rows.
        damaged = run.submit(png(width, height, bytes((3 * width + 1) * (height - 1))))
        whole = run.submit(photo("blue", size=LARGE))
        wait_in_line(run, room, 2)
        first.gate.release()
        with pytest.raises(CorruptImage):
            damaged.result(60)
        assert top(whole) == "blue"
        with room.hold(LIMIT):
            pass


class GatedDecoded(Gated):
    """A classifier that waits at a gate between decoding an image and running its model."""

    def classify(self, data: bytes, crop: Crop = Crop.BUNDLE, room: Memory | None = None) -> Prediction:
        return Classifier.classify(self, data, crop, room)

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.started.release()
        assert self.gate.acquire(timeout=60)
        return super().probabilities(pixels)


def test_an_image_that_waited_for_memory_gives_it_back_once_it_is_decoded(colours: Bundle) -> None:
    room, gated = Room(LIMIT), GatedDecoded(colours)
    with running(gated, room=room) as run:
        with room.hold(LIMIT):
            large = run.submit(photo("red", size=LARGE))
            wait_in_line(run, room, 1)
        # Only the freed memory makes the idle worker look for waiting images.
        assert gated.started.acquire(timeout=60)
        assert room._taken == 0
        gated.gate.release()
        assert top(large) == "red"


def test_closing_finishes_images_that_wait_for_memory(colours: Bundle) -> None:
    room, (first, second) = Room(LIMIT), workers(colours)
    with running(first, second, room=room) as run:
        run.submit(photo("white", size=LARGE))
        assert first.started.acquire(timeout=60)
        large = [run.submit(photo(colour, size=LARGE)) for colour in ("red", "blue")]
        wait_in_line(run, room, 2)
    assert [top(future) for future in large] == ["red", "blue"]
