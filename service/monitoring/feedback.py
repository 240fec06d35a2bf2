"""Accuracy of recent answers, from true classes reported with the image or later."""

import logging
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from service.errors import TruthAlreadyTold, UnknownAnswer
from service.monitoring.logs import SERVICE_LOGGER, fields
from service.monitoring.tally import Tally
from service.results.wilson import wilson_95

# How many of an answer's most probable classes are remembered, for top-5.
REMEMBERED = 5
# Kinds of answers, by the rank of the true class.
_FIRST, _AMONG_FIVE, _WRONG = range(3)

_log = logging.getLogger(SERVICE_LOGGER)


class Feedback:
    """Remembers answers until their true class is reported, and counts how many were right, by variant.

    Wrong answers are logged, so that someone can look for what they have in common. For the event loop only.
    """

    def __init__(self, registry: CollectorRegistry, *, memory: int, window: int) -> None:
        """`memory`: number of answers remembered; `window`: number of labelled ones the accuracy covers."""
        self.labelled = Counter(
            "edgewise_labelled_total",
            "Answers whose true class was reported.",
            ["variant"],
            registry=registry,
        )
        self.correct = Counter(
            "edgewise_correct_total",
            "Answers with the true class among the k most probable.",
            ["variant", "k"],
            registry=registry,
        )
        self.window_labelled = Gauge(
            "edgewise_window_labelled",
            "Labelled answers in the window of edgewise_window_accuracy_ratio.",
            ["variant"],
            registry=registry,
        )
        self.ratio = _accuracy(registry, "", "Top-k accuracy of the labelled answers in the window.")
        self.lower = _accuracy(registry, "_lower", "Lower bound of its 95 % Wilson interval.")
        self.upper = _accuracy(registry, "_upper", "Upper bound of its 95 % Wilson interval.")
        self._memory = memory
        self._window = window
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._variants: dict[str, _Variant] = {}

    def remember(self, id_: str, variant: str, likeliest: Sequence[int], label: int | None = None) -> None:
        """Record an answer: its up to 5 most probable classes, by index, and the true class if known."""
        if len(self._answers) == self._memory:
            self._answers.popitem(last=False)
        if label is None:
            self._answers[id_] = (variant, array(_INDEX, likeliest).tobytes())
        else:
            self._answers[id_] = None
            self._count(id_, variant, likeliest, label)

    def tell(self, id_: str, label: int) -> tuple[str, int | None]:
        """Count an answer whose true class, by index, is `label`.

        Returns its variant, and the rank of the true class among the 5 most probable, from 1, or None.

        Raises:
            UnknownAnswer: there was no such answer, or it is forgotten.
            TruthAlreadyTold: it was reported before, by feedback or with the image.
        """
        try:
            answer = self._answers[id_]
        except KeyError:
            raise UnknownAnswer(
                f"there is no answer with the id {id_[:64]!a} among the last {self._memory}; older ones are"
                " forgotten (EDGEWISE_FEEDBACK_MEMORY)"
            ) from None
        if answer is None:
            raise TruthAlreadyTold(
                f"the true class of {id_} was reported before, with the image or by feedback; only the first"
                " report counts"
            )
        self._answers[id_] = None
        variant, packed = answer
        return variant, self._count(id_, variant, array(_INDEX, packed), label)

    def _count(self, id_: str, variant: str, likeliest: Sequence[int], label: int) -> int | None:
        if variant not in self._variants:
            self._variants[variant] = _Variant(self, variant, self._window)
        place = likeliest.index(label) + 1 if label in likeliest else None
        self._variants[variant].count(place)
        if place != 1:
            details = fields(id=id_, variant=variant, label=label, answered=likeliest[0])
            _log.info("a wrong answer: it is %d, not %d", label, likeliest[0], extra=details)
        return place


# The variant and its most probable classes, packed to save memory; None once the true class is known.
_Answer = tuple[str, bytes] | None
_INDEX = "I"


class _Variant:
    """The labelled answers of one variant."""

    def __init__(self, feedback: Feedback, variant: str, window: int) -> None:
        self._latest = Tally(3, window)
        self._labelled = feedback.labelled.labels(variant)
        self._correct = {k: feedback.correct.labels(variant, str(k)) for k in (1, 5)}
        feedback.window_labelled.labels(variant).set_function(lambda: len(self._latest))
        for k, last in ((1, _FIRST), (5, _AMONG_FIVE)):
            labels = (variant, str(k))
            feedback.ratio.labels(*labels).set_function(partial(self._ratio, last))
            feedback.lower.labels(*labels).set_function(partial(self._bound, 0, last))
            feedback.upper.labels(*labels).set_function(partial(self._bound, 1, last))

    def count(self, place: int | None) -> None:
        """Count an answer whose true class has this rank."""
        self._labelled.inc()
        self._latest.add(_WRONG if place is None else _FIRST if place == 1 else _AMONG_FIVE)
        if place is not None:
            self._correct[5].inc()
        if place == 1:
            self._correct[1].inc()

    def _right(self, last: int) -> int:
        return sum(self._latest.counts[: last + 1])

    def _ratio(self, last: int) -> float:
        return self._right(last) / len(self._latest)

    def _bound(self, end: int, last: int) -> float:
        return wilson_95(self._right(last), len(self._latest))[end]


def _accuracy(registry: CollectorRegistry, end: str, text: str) -> Gauge:
    return Gauge(f"edgewise_window_accuracy_ratio{end}", text, ["variant", "k"], registry=registry)
