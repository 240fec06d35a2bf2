"""How long images wait and take, and what happens if that is too long."""

import re
import time

import pytest

from service.bundle.folder import Bundle
from service.errors import (
    DeadlineExceeded,
    QueueFull,
    WaitTooLong,
)
from service.images.pixels import Crop
from service.inference.job import Job
from tests.api.running import photo
from tests.inference.pools import Gated, gated_pair, running, top


def test_the_waiting_time_is_estimated_and_measured(colours: Bundle) -> None:
    gated = Gated(colours)
    with running(gated, queue_size=3) as run:
        first = run.submit(photo("red"))
        assert gated.started.acquire(timeout=60)
        second = run.submit(photo("red"))
        time.sleep(0.6)
        gated.gate.release()
        first.result(60)
        assert gated.started.acquire(timeout=60)
        for _ in range(3):
            run.submit(photo("red"))
        with pytest.raises(QueueFull) as caught:
            run.submit(photo("red"))
        # One is being classified and three wait, 0.6 seconds or more each.
        assert caught.value.retry_after_seconds is not None
        assert caught.value.retry_after_seconds >= 3
        gated.gate.release(4)
        assert second.result(60).queue_seconds >= 0.6


def test_several_workers_share_the_queue(colours: Bundle) -> None:
    with running(*gated_pair(colours)) as run:
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


def test_each_image_changes_the_expected_seconds_a_little(colours: Bundle) -> None:
    gated = Gated(colours)
    with running(gated) as run:
        run.pool._seconds_of["ptq"] = 1000
        first = run.submit(photo("red"))
        assert gated.started.acquire(timeout=60)
        gated.gate.release()
        assert top(first) == "red"
        # The worker has finished an image only when it has the next one.
        run.submit(photo("red"), seconds=10_000)
        assert gated.started.acquire(timeout=60)
        assert run.pool.wait_seconds == pytest.approx(900, abs=5)


def test_an_image_past_its_deadline_does_not_change_the_expected_seconds(colours: Bundle) -> None:
    gated = Gated(colours)
    with running(gated) as run:
        run.pool._seconds_of["ptq"] = 1000
        with pytest.raises(DeadlineExceeded):
            run.submit(photo("red"), seconds=-1).result(60)
        # The worker has finished an image only when it has the next one.
        run.submit(photo("red"), seconds=10_000)
        assert gated.started.acquire(timeout=60)
        assert run.pool.wait_seconds == 1000


def test_oldest_since_is_the_start_of_the_image_longest_in_work(colours: Bundle) -> None:
    first, second = gated_pair(colours)
    with running(first, second) as run:
        assert run.pool.oldest_since is None
        run.submit(photo("red"))
        assert first.started.acquire(timeout=60)
        oldest = run.pool.oldest_since
        assert oldest is not None
        run.submit(photo("red"))
        assert first.started.acquire(timeout=60)
        assert run.pool.oldest_since == oldest


def test_an_image_that_waits_past_its_deadline_is_not_classified(colours: Bundle) -> None:
    gated = Gated(colours)
    with running(gated) as run:
        first = run.submit(photo("red"))
        assert gated.started.acquire(timeout=60)
        second, third = run.submit(photo("blue"), seconds=0.05), run.submit(photo("green"))
        time.sleep(0.1)
        gated.gate.release(3)
        with pytest.raises(DeadlineExceeded) as caught:
            second.result(60)
        (seconds,) = re.findall(r"was free in the (\S+) seconds that it waited", str(caught.value))
        assert float(seconds) >= 0.1
        assert (top(first), top(third)) == ("red", "green")
        assert gated.images == 2


def test_an_image_that_would_wait_beyond_its_deadline_is_refused(colours: Bundle) -> None:
    gated = Gated(colours)
    with running(gated) as run:
        run.pool._seconds_of["ptq"] = 500
        first = run.submit(photo("red"))
        assert gated.started.acquire(timeout=60)
        with pytest.raises(WaitTooLong, match="a worker is free in about 500 seconds") as caught:
            run.submit(photo("blue"), seconds=400)
        assert caught.value.retry_after_seconds == 500
        second = run.submit(photo("green"), seconds=1000)
        gated.gate.release(2)
        assert (top(first), top(second)) == ("red", "green")


def test_there_is_no_wait_if_a_worker_is_free(colours: Bundle) -> None:
    first, second = gated_pair(colours)
    with running(first, second) as run:
        run.pool._seconds_of["ptq"] = 1000
        busy = run.submit(photo("red"))
        # One of two workers is busy, for 1000 seconds by the estimate; the other one is free.
        assert run.pool.wait_seconds == 0
        urgent = run.submit(photo("blue"), seconds=60)
        first.gate.release(2)
        assert (top(busy), top(urgent)) == ("red", "blue")


def test_busy_seconds_count_an_image_while_it_is_classified(colours: Bundle) -> None:
    gated = Gated(colours)
    with running(gated) as run:
        time.sleep(0.2)
        assert run.pool.busy_seconds == 0
        first = run.submit(photo("red"))
        assert gated.started.acquire(timeout=60)
        time.sleep(0.2)
        before = run.pool.busy_seconds
        assert before >= 0.2
        gated.gate.release()
        first.result(60)
        # The worker has finished an image only when it has the next one.
        second = run.submit(photo("red"))
        assert gated.started.acquire(timeout=60)
        gated.gate.release()
        second.result(60)
        assert run.pool.busy_seconds >= before
