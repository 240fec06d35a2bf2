"""The counts of a load test, in one process or merged from several."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadtest.accuracy import Accuracy
from loadtest.histogram import Histogram

# Enough for a plot; in a longer test each point covers more seconds.
_MOST_POINTS = 600


@dataclass
class Counts:
    """The counts of requests and of cameras' frames.

    `requests`: photos and truths sent. Of these, photos were `answered` with classes, `truths` accepted, both
    `refused` by 429, and the rest failed. `given_up`: photos and truths refused as often as a client tries.

    `frames`: due so far, of which `late` had no answer before the next one was due, `frames_refused` were
    refused, and `dropped` were not sent, because `Retry-After` had said to wait.
    """

    requests: int = 0
    answered: int = 0
    refused: int = 0
    given_up: int = 0
    frames: int = 0
    late: int = 0
    frames_refused: int = 0
    dropped: int = 0
    truths: int = 0

    def add(self, other: "Counts") -> None:
        """Add the counts of another process."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


class Tally:
    """All counts; times in seconds."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Reset all counts."""
        self.counts = Counts()
        self.errors: Counter[str] = Counter()
        # The times from when a request was due to its answer, by the second (since the epoch) of the answer.
        self.points: dict[int, Histogram] = {}
        self.seconds_a_point = 1
        # How late frames were sent that the load test itself, and not an earlier request, delayed.
        self.lag = Histogram()
        # By variant and photo: the answers, the right ones, and the ones with the label among the first five.
        self._labelled: defaultdict[str, defaultdict[int, Counter[str]]] = defaultdict(_by_photo)

    def answered(self, latency: float, at: float) -> None:
        """Count an answer with classes, received `at` this time, in seconds since the epoch."""
        self.counts.answered += 1
        self._point(int(at)).add(latency)

    def labelled(self, variant: str, photo: int, classes: list[int], label: int) -> None:
        """Count the classes of an answer, most probable first, to a photo with this CRC and label."""
        counts = self._labelled[variant][photo]
        counts["answers"] += 1
        counts["correct"] += classes[:1] == [label]
        counts["correct5"] += label in classes[:5]

    @property
    def latency(self) -> Histogram:
        """The latencies of all answers."""
        whole = Histogram()
        for point in self.points.values():
            whole.merge(point)
        return whole

    @property
    def accuracy(self) -> dict[str, Accuracy]:
        """The accuracy of each variant that answered."""
        return {
            variant: Accuracy(
                photos=len(photos),
                **{
                    name: sum(counts[name] for counts in photos.values())
                    for name in ("answers", "correct", "correct5")
                },
            )
            for variant, photos in sorted(self._labelled.items())
        }

    def message(self) -> dict[str, Any]:
        """Return all counts in plain dictionaries, for `merge` in another process."""
        return {
            "counts": vars(self.counts),
            "errors": dict(self.errors),
            "points": {second: dict(point.buckets) for second, point in self.points.items()},
            "lag": dict(self.lag.buckets),
            "labelled": {
                variant: {photo: dict(counts) for photo, counts in photos.items()}
                for variant, photos in self._labelled.items()
            },
        }

    def merge(self, message: Mapping[str, Any]) -> None:
        """Add the counts in another process's message."""
        self.counts.add(Counts(**message["counts"]))
        self.errors.update(message["errors"])
        for second, buckets in message["points"].items():
            self._point(second).merge(Histogram(buckets))
        self.lag.merge(Histogram(message["lag"]))
        for variant, photos in message["labelled"].items():
            for photo, counts in photos.items():
                self._labelled[variant][photo].update(counts)

    def fit_points(self, seconds: float) -> None:
        """Have points cover enough seconds that a test of this length has no more than a plot can show."""
        while seconds > _MOST_POINTS * self.seconds_a_point:
            self._halve_points()

    def _point(self, second: int) -> Histogram:
        start = second - second % self.seconds_a_point
        if start not in self.points and len(self.points) >= _MOST_POINTS:
            self._halve_points()
            return self._point(second)
        return self.points.setdefault(start, Histogram())

    def _halve_points(self) -> None:
        self.seconds_a_point *= 2
        points, self.points = self.points, {}
        for second, point in points.items():
            self.points.setdefault(second - second % self.seconds_a_point, Histogram()).merge(point)


def _by_photo() -> defaultdict[int, Counter[str]]:
    return defaultdict(Counter)
