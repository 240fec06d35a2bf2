"""The workers run shadows when they have nothing to do, and never else."""

import threading
import time

import pytest

from service.bundle.folder import Bundle
from service.errors import WaitTooLong
from service.inference.classifier import Classifier
from service.inference.shadow import Shadow, Skip
from tests.inference.pools import Held, held_pair, photo, running, top
from tests.inference.test_shadow import Broken, HeldShadow, Seen
from tests.system.processes import wait_for


def test_an_idle_worker_compares_every_answer(colours: Bundle) -> None:
    seen = Seen()
    shadow = Shadow(Classifier(colours, "fp32"), 1, seen)
    with running(*(Classifier(colours, "ptq") for _ in range(2)), shadow=shadow) as run:
        for number, colour in enumerate(["red", "blue", "green"] * 5):
            assert top(run.submit(photo(colour))) == colour
            wait_for(lambda number=number: len(seen.comparisons) > number)
    assert [difference["agrees"] for _, difference in seen.comparisons] == [True] * 15
    assert seen.skips == []


def test_while_images_wait_nothing_is_compared(colours: Bundle) -> None:
    seen, held = Seen(), Held(colours)
    with running(held, shadow=Shadow(Classifier(colours, "fp32"), 1, seen)) as run:
        futures = [run.submit(photo("red")) for _ in range(10)]
        held.let.release(10)
        assert [top(future) for future in futures] == ["red"] * 10
        wait_for(lambda: len(seen.comparisons) == 1)
    assert seen.skips == [Skip.QUEUE] * 9


def test_an_image_that_comes_meanwhile_goes_to_another_worker(colours: Bundle) -> None:
    seen, held = Seen(), HeldShadow(colours)
    with running(*(Classifier(colours, "ptq") for _ in range(2)), shadow=Shadow(held, 1, seen)) as run:
        run.submit(photo("red"))
        assert held.begun.acquire(timeout=60)
        for colour in ("blue", "green"):
            assert top(run.submit(photo(colour))) == colour
        # A worker offers its answer after it was given.
        wait_for(lambda: seen.skips == [Skip.SHADOW] * 2)
        held.let.release()
        wait_for(lambda: len(seen.comparisons) == 1)


def test_an_image_waits_for_one_shadow_at_the_most(colours: Bundle) -> None:
    seen, held = Seen(), HeldShadow(colours)
    with running(Classifier(colours, "ptq"), shadow=Shadow(held, 1, seen)) as run:
        assert top(run.submit(photo("red"))) == "red"
        assert held.begun.acquire(timeout=60)
        futures = [run.submit(photo(colour)) for colour in ("blue", "green")]
        held.let.release()
        assert [top(future) for future in futures] == ["blue", "green"]
        assert seen.skips == [Skip.QUEUE]
        held.let.release()


def test_what_would_wait_too_long_for_the_shadow_is_refused(colours: Bundle) -> None:
    held = HeldShadow(colours)
    shadow = Shadow(held, 1, Seen())
    shadow._seconds = 1000
    with running(Classifier(colours, "ptq"), shadow=shadow) as run:
        run.submit(photo("red"))
        assert held.begun.acquire(timeout=60)
        with pytest.raises(WaitTooLong):
            run.submit(photo("red"), seconds=300)
        # It is no demand, and must not bring in the variant for a high load.
        assert run.pool.wait_seconds == 0
        future = run.submit(photo("blue"), seconds=2000)
        held.let.release(2)
        assert top(future) == "blue"


def test_a_shadow_delays_what_waits_for_any_of_several_workers_by_its_share(colours: Bundle) -> None:
    first, second = held_pair(colours)
    first.let.release()
    held = HeldShadow(colours)
    shadow = Shadow(held, 1, Seen())
    shadow._seconds = 1000
    with running(first, second, shadow=shadow) as run:
        assert top(run.submit(photo("red"))) == "red"
        assert held.begun.acquire(timeout=60)
        # One worker has the shadow, the other one this.
        run.submit(photo("red"))
        now = time.monotonic()
        run.pool.check(now + 700)
        with pytest.raises(WaitTooLong):
            run.pool.check(now + 300)
        held.let.release()


def test_where_another_worker_is_free_nothing_waits_for_the_shadow(colours: Bundle) -> None:
    held = HeldShadow(colours)
    shadow = Shadow(held, 1, Seen())
    shadow._seconds = 1000
    with running(*(Classifier(colours, "ptq") for _ in range(2)), shadow=shadow) as run:
        run.submit(photo("red"))
        assert held.begun.acquire(timeout=60)
        assert top(run.submit(photo("blue"), seconds=60)) == "blue"
        held.let.release()


def test_the_stop_drops_what_waits_to_be_compared(colours: Bundle) -> None:
    seen, held = Seen(), Held(colours)
    with running(held, shadow=Shadow(HeldShadow(colours), 1, seen)) as run:
        future = run.submit(photo("red"))
        assert held.begun.acquire(timeout=60)
        closing = threading.Thread(target=run.pool.close)
        closing.start()
        wait_for(lambda: not run.pool._queue.empty())
        held.let.release()
        closing.join()
    assert top(future) == "red"
    assert (seen.comparisons, seen.skips) == ([], [Skip.QUEUE])


def test_a_shadow_that_breaks_down_ends_no_worker(colours: Bundle) -> None:
    seen, broken = Seen(), Classifier(colours, "fp32")
    broken.__class__ = Broken
    with running(Classifier(colours, "ptq"), shadow=Shadow(broken, 1, seen)) as run:
        for number in range(3):
            assert top(run.submit(photo("blue"))) == "blue"
            wait_for(lambda number=number: len(seen.failures) > number)


def test_shadows_are_no_time_at_work(colours: Bundle) -> None:
    held = HeldShadow(colours)
    with running(Classifier(colours, "ptq"), shadow=Shadow(held, 1, Seen())) as run:
        run.submit(photo("red"))
        assert held.begun.acquire(timeout=60)
        busy = run.pool.busy_seconds
        time.sleep(0.3)
        held.let.release()
        assert run.pool.busy_seconds == busy
