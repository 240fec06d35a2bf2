"""The time that workers spent on images, as a metric."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

NAME = "edgewise_worker_busy_seconds"


class WorkerBusy(Collector):
    """At each scrape, reads how many seconds all workers together have spent on images so far."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Return the one metric."""
        text = "Seconds that all workers together spent on images; shadow runs don't count."
        yield CounterMetricFamily(NAME, text, value=self._seconds())
