import threading
import time

import pytest

from service.bundle.folder import Bundle
from service.errors import NoAnswer
from service.inference.classifier import Classifier
from service.inference.divergence import kl_nats
from service.inference.shadow import Shadow, Skip
from tests.api.running import photo
from tests.inference.shadows import Broken, GatedShadow, Recorder


def test_an_answer_is_compared_with_the_shadows_for_the_same_pixels(colours: Bundle) -> None:
    recorder, ptq, fp32 = Recorder(), Classifier(colours, "ptq"), Classifier(colours, "fp32")
    shadow = Shadow(fp32, 1, recorder)
    prediction, expected = ptq.classify(photo("red")), fp32.classify(photo("red"))
    shadow.offer(prediction)
    assert shadow.pending
    shadow.run()
    assert not shadow.pending
    ((variant, difference),) = recorder.comparisons
    assert variant == "ptq"
    assert difference == {
        "agrees": True,
        "kl_nats": float(kl_nats(expected.probabilities, prediction.probabilities)),
        "confidence_shift": pytest.approx(prediction.probabilities.max() - expected.probabilities.max()),
    }
    assert difference["kl_nats"] > 0


def test_another_top_class_counts_as_disagreement(colours: Bundle) -> None:
    recorder, ptq = Recorder(), Classifier(colours, "ptq")
    shadow = Shadow(Classifier(colours, "fp32"), 1, recorder)
    prediction = ptq.classify(photo("red"))
    prediction.probabilities[:] = ptq.classify(photo("blue")).probabilities
    shadow.offer(prediction)
    shadow.run()
    assert [difference["agrees"] for _, difference in recorder.comparisons] == [False]


def test_the_shadows_own_answers_are_not_compared(colours: Bundle) -> None:
    recorder, fp32 = Recorder(), Classifier(colours, "fp32")
    shadow = Shadow(fp32, 1, recorder)
    shadow.offer(fp32.classify(photo("red")))
    assert not shadow.pending
    assert recorder.skips == []


@pytest.mark.parametrize(("ratio", "least", "most"), [(0, 0, 0), (0.3, 200, 400), (1, 1000, 1000)])
def test_a_share_of_the_answers_is_compared(colours: Bundle, ratio: float, least: int, most: int) -> None:
    recorder = Recorder()
    shadow = Shadow(Classifier(colours, "fp32"), ratio, recorder)
    prediction = Classifier(colours, "ptq").classify(photo("red"))
    for _ in range(1000):
        shadow.offer(prediction)
        shadow.drop()
    assert least <= len(recorder.skips) <= most
    assert set(recorder.skips) <= {Skip.QUEUE}


def test_one_answer_is_compared_at_a_time(colours: Bundle) -> None:
    recorder, gated = Recorder(), GatedShadow(colours)
    gated.gate.release()  # For the first one, which measures how long one takes.
    shadow, prediction = Shadow(gated, 1, recorder), Classifier(colours, "ptq").classify(photo("red"))
    for _ in range(2):
        shadow.offer(prediction)
    assert recorder.skips == [Skip.SHADOW]
    shadow.run()
    assert gated.started.acquire(timeout=60)
    shadow.offer(prediction)
    other = threading.Thread(target=shadow.run)
    other.start()
    assert gated.started.acquire(timeout=60)
    shadow.offer(prediction)
    assert not shadow.pending
    shadow.run()  # None is pending, and this must not wait for the one that runs.
    shadow.drop()
    gated.gate.release()
    other.join()
    assert recorder.skips == [Skip.SHADOW] * 2
    assert len(recorder.comparisons) == 2


def test_a_failure_is_reported_and_the_next_comparison_runs(colours: Bundle) -> None:
    recorder, broken = Recorder(), Classifier(colours, "fp32")
    broken.__class__ = Broken
    shadow, prediction = Shadow(broken, 1, recorder), Classifier(colours, "ptq").classify(photo("red"))
    for _ in range(2):
        shadow.offer(prediction)
        shadow.run()
    assert [(variant, str(error)) for variant, error in recorder.failures] == [
        ("ptq", "the device is gone")
    ] * 2
    assert (recorder.comparisons, recorder.skips) == ([], [])


def test_a_shadow_without_an_answer_is_reported_and_not_compared(logarithmic: Bundle) -> None:
    recorder = Recorder()
    shadow = Shadow(Classifier(logarithmic, "fp32"), 1, recorder)
    shadow.offer(Classifier(logarithmic, "ptq").classify(photo("black")))
    shadow.run()
    ((variant, error),) = recorder.failures
    assert (variant, type(error)) == ("ptq", NoAnswer)
    assert (recorder.comparisons, recorder.skips) == ([], [])


def test_the_seconds_left_of_a_running_comparison_are_estimated(colours: Bundle) -> None:
    gated = GatedShadow(colours)
    shadow, prediction = Shadow(gated, 1, Recorder()), Classifier(colours, "ptq").classify(photo("red"))
    assert shadow.seconds_left == 0
    least = most = 0.0
    for _ in range(2):
        shadow.offer(prediction)
        other = threading.Thread(target=shadow.run)
        started = time.monotonic()
        other.start()
        assert gated.started.acquire(timeout=60)
        left = shadow.seconds_left
        # What the previous one took, less what has passed of this one.
        assert least - (time.monotonic() - started) <= left <= most
        least = 0.5
        time.sleep(least)
        gated.gate.release()
        other.join()
        most = time.monotonic() - started
        assert shadow.seconds_left == 0
