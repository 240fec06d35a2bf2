import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from service.errors import TruthAlreadyTold, UnknownAnswer
from service.monitoring.feedback import Feedback
from service.monitoring.logs import SERVICE_LOGGER, JsonFormatter
from service.results.wilson import wilson_95

LIKELIEST = (7, 3, 1, 0, 900)


class Watched:
    """A Feedback and the values in its registry."""

    def __init__(self, memory: int = 10, window: int = 10) -> None:
        self.registry = CollectorRegistry()
        self.feedback = Feedback(self.registry, memory=memory, window=window)

    def value(self, name: str, variant: str = "fp32", **labels: str) -> float | None:
        return self.registry.get_sample_value(f"edgewise_{name}", {"variant": variant, **labels})


def test_there_are_no_metrics_before_the_first_label() -> None:
    watched = Watched()
    watched.feedback.remember("a", "fp32", LIKELIEST)
    assert watched.value("labelled_total") is None
    assert watched.value("window_labelled") is None
    assert watched.value("window_accuracy_ratio", k="1") is None


@pytest.mark.parametrize(("label", "rank"), [(7, 1), (3, 2), (900, 5), (901, None)])
def test_a_label_counts_by_its_rank_among_the_likeliest(label: int, rank: int | None) -> None:
    watched = Watched()
    watched.feedback.remember("a", "fp32", LIKELIEST)
    assert watched.feedback.tell("a", label) == ("fp32", rank)
    assert watched.value("labelled_total") == watched.value("window_labelled") == 1
    for k, right in (("1", rank == 1), ("5", rank is not None)):
        assert watched.value("correct_total", k=k) == right
        assert watched.value("window_accuracy_ratio", k=k) == right


def test_a_wrong_answer_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    with caplog.at_level("INFO", SERVICE_LOGGER):
        watched.feedback.remember("a", "fp32", LIKELIEST, label=7)
        watched.feedback.remember("b", "fp32", LIKELIEST, label=3)
        watched.feedback.remember("c", "fp32", LIKELIEST)
        watched.feedback.tell("c", 901)
    assert [record.getMessage() for record in caplog.records] == [
        "a wrong answer: it is 3, not 7",
        "a wrong answer: it is 901, not 7",
    ]
    line = json.loads(JsonFormatter().format(caplog.records[1]))
    assert (line["id"], line["variant"], line["label"], line["answered"]) == ("c", "fp32", 901, 7)


@given(
    labels=st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=60),
    window=st.integers(1, 30),
)
def test_the_window_has_the_latest_labels_and_the_counters_have_all(
    labels: list[tuple[int, bool]], window: int
) -> None:
    watched = Watched(window=window)
    for number, (label, with_image) in enumerate(labels):
        watched.feedback.remember(str(number), "fp32", range(5), label if with_image else None)
        if not with_image:
            watched.feedback.tell(str(number), label)
    assert watched.value("labelled_total") == len(labels)
    latest = labels[-window:]
    assert watched.value("window_labelled") == len(latest)
    for k in (1, 5):
        assert watched.value("correct_total", k=str(k)) == sum(label < k for label, _ in labels)
        right = sum(label < k for label, _ in latest)
        assert watched.value("window_accuracy_ratio", k=str(k)) == right / len(latest)
        bounds = [watched.value(f"window_accuracy_ratio_{end}", k=str(k)) for end in ("lower", "upper")]
        assert bounds == list(wilson_95(right, len(latest)))


def test_a_second_label_is_refused_and_does_not_count() -> None:
    watched = Watched()
    watched.feedback.remember("a", "fp32", LIKELIEST)
    watched.feedback.remember("b", "fp32", LIKELIEST, label=7)
    watched.feedback.tell("a", 3)
    for id_ in ("a", "b"):
        with pytest.raises(TruthAlreadyTold, match=f"of {id_} was reported before"):
            watched.feedback.tell(id_, 7)
    assert watched.value("labelled_total") == 2


def test_only_the_latest_answers_are_remembered() -> None:
    watched = Watched(memory=3)
    for number in range(5):
        watched.feedback.remember(str(number), "fp32", LIKELIEST, label=7 if number % 2 else None)
    for forgotten in ("0", "1", "never"):
        with pytest.raises(UnknownAnswer, match="among the last 3"):
            watched.feedback.tell(forgotten, 7)
    for known in ("2", "4"):
        watched.feedback.tell(known, 7)


def test_variants_have_their_own_windows() -> None:
    watched = Watched(window=2)
    for number, variant in enumerate(["fp32", "ptq", "ptq", "ptq"]):
        watched.feedback.remember(str(number), variant, LIKELIEST, label=7 if variant == "ptq" else 3)
    assert watched.value("window_labelled") == 1
    assert watched.value("window_labelled", "ptq") == 2
    assert watched.value("window_accuracy_ratio", k="1") == 0
    assert watched.value("window_accuracy_ratio", "ptq", k="1") == 1


def test_a_model_may_have_fewer_than_5_classes() -> None:
    watched = Watched()
    watched.feedback.remember("a", "fp32", (1, 0), label=0)
    assert watched.value("correct_total", k="5") == 1
