"""How long the workers were at work."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

NAME = "edgewise_worker_busy_seconds"


class WorkerBusy(Collector):
    """Asks at each scrape for the seconds that all workers together were at work so far."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The one metric."""
        text = "Seconds that workers were at work on images, all of them together; shadow runs don't count."
        yield CounterMetricFamily(NAME, text, value=self._seconds())
