"""The workers run shadows only when they have nothing else to do."""

import threading
import time

import pytest

from service.bundle.folder import Bundle
from service.errors import WaitTooLong
from service.inference.classifier import Classifier
from service.inference.shadow import Shadow, Skip
from tests.api.running import photo
from tests.inference.pools import Gated, gated_pair, running, top
from tests.inference.shadows import Broken, GatedShadow, Recorder
from tests.system.processes import wait_for


def test_an_idle_worker_compares_every_answer(colours: Bundle) -> None:
    recorder = Recorder()
    shadow = Shadow(Classifier(colours, "fp32"), 1, recorder)
    with running(*(Classifier(colours, "ptq") for _ in range(2)), shadow=shadow) as run:
        for number, colour in enumerate(["red", "blue", "green"] * 5):
            assert top(run.submit(photo(colour))) == colour
            wait_for(lambda number=number: len(recorder.comparisons) > number)
    assert [difference["agrees"] for _, difference in recorder.comparisons] == [True] * 15
    assert recorder.skips == []


def test_nothing_is_compared_while_images_wait(colours: Bundle) -> None:
    recorder, gated = Recorder(), Gated(colours)
    with running(gated, shadow=Shadow(Classifier(colours, "fp32"), 1, recorder)) as run:
        futures = [run.submit(photo("red")) for _ in range(10)]
        gated.gate.release(10)
        assert [top(future) for future in futures] == ["red"] * 10
        wait_for(lambda: len(recorder.comparisons) == 1)
    assert recorder.skips == [Skip.QUEUE] * 9


def test_an_image_that_comes_during_a_shadow_goes_to_another_worker(colours: Bundle) -> None:
    recorder, gated = Recorder(), GatedShadow(colours)
    with running(*(Classifier(colours, "ptq") for _ in range(2)), shadow=Shadow(gated, 1, recorder)) as run:
        run.submit(photo("red"))
        assert gated.started.acquire(timeout=60)
        for colour in ("blue", "green"):
            assert top(run.submit(photo(colour))) == colour
        # A worker gives its answer before it offers it to the shadow.
        wait_for(lambda: recorder.skips == [Skip.SHADOW] * 2)
        gated.gate.release()
        wait_for(lambda: len(recorder.comparisons) == 1)


def test_an_image_waits_for_at_most_one_shadow(colours: Bundle) -> None:
    recorder, gated = Recorder(), GatedShadow(colours)
    with running(Classifier(colours, "ptq"), shadow=Shadow(gated, 1, recorder)) as run:
        assert top(run.submit(photo("red"))) == "red"
        assert gated.started.acquire(timeout=60)
        futures = [run.submit(photo(colour)) for colour in ("blue", "green")]
        gated.gate.release()
        assert [top(future) for future in futures] == ["blue", "green"]
        assert recorder.skips == [Skip.QUEUE]
        gated.gate.release()


def test_an_image_that_would_wait_too_long_for_the_shadow_is_refused(colours: Bundle) -> None:
    gated = GatedShadow(colours)
    shadow = Shadow(gated, 1, Recorder())
    shadow._seconds = 1000
    with running(Classifier(colours, "ptq"), shadow=shadow) as run:
        run.submit(photo("red"))
        assert gated.started.acquire(timeout=60)
        with pytest.raises(WaitTooLong):
            run.submit(photo("red"), seconds=300)
        # A shadow is no load, and must not activate the variant for high load.
        assert run.pool.wait_seconds == 0
        future = run.submit(photo("blue"), seconds=2000)
        gated.gate.release(2)
        assert top(future) == "blue"


def test_a_shadow_on_one_of_two_workers_delays_images_by_half_of_it(colours: Bundle) -> None:
    first, second = gated_pair(colours)
    first.gate.release()
    gated = GatedShadow(colours)
    shadow = Shadow(gated, 1, Recorder())
    shadow._seconds = 1000
    with running(first, second, shadow=shadow) as run:
        assert top(run.submit(photo("red"))) == "red"
        assert gated.started.acquire(timeout=60)
        # One worker has the shadow, the other one this image.
        run.submit(photo("red"))
        now = time.monotonic()
        run.pool.check(now + 700)
        with pytest.raises(WaitTooLong):
            run.pool.check(now + 300)
        gated.gate.release()


def test_nothing_waits_for_the_shadow_if_another_worker_is_free(colours: Bundle) -> None:
    gated = GatedShadow(colours)
    shadow = Shadow(gated, 1, Recorder())
    shadow._seconds = 1000
    with running(*(Classifier(colours, "ptq") for _ in range(2)), shadow=shadow) as run:
        run.submit(photo("red"))
        assert gated.started.acquire(timeout=60)
        assert top(run.submit(photo("blue"), seconds=60)) == "blue"
        gated.gate.release()


def test_closing_drops_pending_comparisons(colours: Bundle) -> None:
    recorder, gated = Recorder(), Gated(colours)
    with running(gated, shadow=Shadow(GatedShadow(colours), 1, recorder)) as run:
        future = run.submit(photo("red"))
        assert gated.started.acquire(timeout=60)
        closing = threading.Thread(target=run.pool.close)
        closing.start()
        wait_for(lambda: not run.pool._queue.empty())
        gated.gate.release()
        closing.join()
    assert top(future) == "red"
    assert (recorder.comparisons, recorder.skips) == ([], [Skip.QUEUE])


def test_a_failing_shadow_ends_no_worker(colours: Bundle) -> None:
    recorder, broken = Recorder(), Classifier(colours, "fp32")
    broken.__class__ = Broken
    with running(Classifier(colours, "ptq"), shadow=Shadow(broken, 1, recorder)) as run:
        for number in range(3):
            assert top(run.submit(photo("blue"))) == "blue"
            wait_for(lambda number=number: len(recorder.failures) > number)


def test_shadows_do_not_count_as_busy_seconds(colours: Bundle) -> None:
    gated = GatedShadow(colours)
    with running(Classifier(colours, "ptq"), shadow=Shadow(gated, 1, Recorder())) as run:
        run.submit(photo("red"))
        assert gated.started.acquire(timeout=60)
        busy = run.pool.busy_seconds
        time.sleep(0.3)
        gated.gate.release()
        assert run.pool.busy_seconds == busy
