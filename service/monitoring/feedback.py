"""What was right: the truth about answers, told with the image or later, as accuracy of the latest."""

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

# Likeliest classes that are remembered of an answer, for top-5.
REMEMBERED = 5
# What an answer is, by the place of the true class among the likeliest.
_FIRST, _AMONG_FIVE, _WRONG = range(3)

_log = logging.getLogger(SERVICE_LOGGER)


class Feedback:
    """Remembers answers until their truth is told, and counts how many were right, by variant.

    Those that were wrong are in the log, for whoever looks for what they have in common. Belongs to the
    event loop.
    """

    def __init__(self, registry: CollectorRegistry, *, memory: int, window: int) -> None:
        """`memory`: answers that are remembered; `window`: labelled ones that accuracy is shown of."""
        self.labelled = Counter(
            "edgewise_labelled_total", "Answers whose truth was told.", ["variant"], registry=registry
        )
        self.correct = Counter(
            "edgewise_correct_total",
            "Answers with the true class among their k likeliest.",
            ["variant", "k"],
            registry=registry,
        )
        self.window_labelled = Gauge(
            "edgewise_window_labelled",
            "Labelled answers in the window that accuracy is shown of.",
            ["variant"],
            registry=registry,
        )
        self.ratio = _accuracy(registry, "", "Top-k accuracy of the labelled answers in the window.")
        self.lower = _accuracy(registry, "_lower", "Its 95 % Wilson interval's lower end.")
        self.upper = _accuracy(registry, "_upper", "Its 95 % Wilson interval's upper end.")
        self._memory = memory
        self._window = window
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._variants: dict[str, _Variant] = {}

    def remember(self, id_: str, variant: str, likeliest: Sequence[int], label: int | None = None) -> None:
        """Take note of an answer: its up to 5 likeliest classes, by index, and the true one where told."""
        if len(self._answers) == self._memory:
            self._answers.popitem(last=False)
        if label is None:
            self._answers[id_] = (variant, array(_INDEX, likeliest).tobytes())
        else:
            self._answers[id_] = None
            self._count(id_, variant, likeliest, label)

    def tell(self, id_: str, label: int) -> tuple[str, int | None]:
        """Count the truth about an answer, the class' index.

        The answer is the variant, and the place of the true class among the 5 likeliest, from 1, or None.

        Raises:
            UnknownAnswer: there was no such answer, or it is forgotten.
            TruthAlreadyTold: it was told before, by feedback or with the image.
        """
        try:
            answer = self._answers[id_]
        except KeyError:
            raise UnknownAnswer(
                f"there is no answer of the id {id_[:64]!a} among the last {self._memory}, which are all that"
                " is remembered (EDGEWISE_FEEDBACK_MEMORY)"
            ) from None
        if answer is None:
            raise TruthAlreadyTold(
                f"the truth about {id_} was told before, with the image or by feedback; the first one counts"
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
            told = fields(id=id_, variant=variant, label=label, answered=likeliest[0])
            _log.info("a wrong answer: it is %d, not %d", label, likeliest[0], extra=told)
        return place


# The variant and the likeliest classes, packed, since there are many; None once the truth is told.
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
        """Count an answer with the true class in this place."""
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
