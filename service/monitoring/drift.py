"""Drift: whether current requests resemble the images of the bundle's reference."""

from functools import partial

from prometheus_client import CollectorRegistry, Gauge, Histogram

from service.bundle.reference import Reference
from service.monitoring.stability import ClassBins, ConfidenceBins, bins_of, stability_index
from service.monitoring.tally import Tally

# With fewer answers the index is noise: docs/metrics.md.
LEAST_ANSWERS = 200
CONFIDENCE_BUCKETS = tuple(i / 10 for i in range(1, 11))


class Drift:
    """Compares each variant's last answers with its answers in the reference; for the event loop only."""

    def __init__(self, registry: CollectorRegistry, reference: Reference | None, window: int) -> None:
        """`window`: number of answers, at least `LEAST_ANSWERS`; without a reference there is no index."""
        self.confidence = Histogram(
            "edgewise_confidence",
            "Probability of the top-1 class of each answer.",
            ["variant"],
            buckets=CONFIDENCE_BUCKETS,
            registry=registry,
        )
        self.psi = Gauge(
            "edgewise_drift_psi",
            "Population stability index of the last answers against the bundle's reference.",
            ["signal", "variant"],
            registry=registry,
        )
        self.answers = Gauge(
            "edgewise_drift_answers",
            "Answers in the window of edgewise_drift_psi.",
            ["variant"],
            registry=registry,
        )
        self._reference = reference
        self._window = window
        self._confidence_of: dict[str, Histogram] = {}
        self._watched: dict[str, _Watched] = {}

    def observe(self, variant: str, top1: int, confidence: float) -> None:
        """Record an answer: the index of its most probable class, and that class's probability."""
        histogram = self._confidence_of.get(variant)
        if histogram is None:
            histogram = self._begin(variant)
        histogram.observe(confidence)
        watched = self._watched.get(variant)
        if watched is not None:
            watched.add(top1, confidence)

    def _begin(self, variant: str) -> Histogram:
        histogram = self._confidence_of[variant] = self.confidence.labels(variant)
        answers = self._reference.variants.get(variant) if self._reference else None
        bins = bins_of(answers) if answers else None
        if bins:
            self._watched[variant] = _Watched(self, variant, *bins, self._window)
        return histogram


class _Watched:
    """The last answers of one variant, by bin."""

    def __init__(
        self, drift: Drift, variant: str, classes: ClassBins, confidences: ConfidenceBins, window: int
    ) -> None:
        self._drift = drift
        self._variant = variant
        self._classes = classes
        self._confidences = confidences
        self._top1 = Tally(len(classes.expected), window)
        self._confidence = Tally(len(confidences.expected), window)
        drift.answers.labels(variant).set_function(lambda: len(self._top1))

    def add(self, top1: int, confidence: float) -> None:
        # Checked first: a window of `LEAST_ANSWERS` holds that many after every later answer, too.
        is_last_missing = len(self._top1) == LEAST_ANSWERS - 1
        self._top1.add(self._classes.of[top1])
        self._confidence.add(self._confidences.of(confidence))
        if is_last_missing:
            self._show()

    def _show(self) -> None:
        for signal, expected, tally in (
            ("top1", self._classes.expected, self._top1),
            ("confidence", self._confidences.expected, self._confidence),
        ):
            index = partial(stability_index, expected, tally.counts)
            self._drift.psi.labels(signal, self._variant).set_function(index)
