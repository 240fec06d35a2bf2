"""The results of a load test, in the quantities that its goals are about."""

from dataclasses import dataclass

from loadtest.accuracy import Accuracy
from loadtest.tally import Counts, Tally

PERCENTILES = (50, 90, 95, 99, 99.9, 100)


@dataclass(frozen=True)
class Summary:
    """The results of a test of so many seconds.

    `rate`: answers/s; `latency`: by percentile, seconds from when a request was due to its answer, None if
    nothing was answered; `lag`: the 99th percentile of how late the load test sent frames, in seconds.
    """

    seconds: float
    rate: float
    latency: dict[float, float | None]
    lag: float | None
    counts: Counts
    errors: dict[str, int]
    accuracy: dict[str, Accuracy]

    @property
    def error_ratio(self) -> float:
        """The share of requests, photos and truths, that got neither their answer nor a 429."""
        return sum(self.errors.values()) / max(1, self.counts.requests)

    @property
    def late_ratio(self) -> float:
        """The share of the cameras' frames that were late, refused or dropped."""
        counts = self.counts
        return (counts.late + counts.frames_refused + counts.dropped) / max(1, counts.frames)

    @property
    def overall(self) -> Accuracy | None:
        """The accuracy of all variants together; None if nothing was answered."""
        each = self.accuracy.values()
        if not each:
            return None
        return Accuracy(
            answers=sum(one.answers for one in each),
            photos=max(one.photos for one in each),
            correct=sum(one.correct for one in each),
            correct5=sum(one.correct5 for one in each),
        )


def summarize(tally: Tally, seconds: float) -> Summary:
    """Summarize the counts of a test that took so many seconds."""
    latency = tally.latency
    return Summary(
        seconds=seconds,
        rate=tally.counts.answered / seconds if seconds else 0.0,
        latency={percent: latency.percentile(percent) for percent in PERCENTILES},
        lag=tally.lag.percentile(99),
        counts=tally.counts,
        errors=dict(tally.errors.most_common()),
        accuracy=tally.accuracy,
    )
