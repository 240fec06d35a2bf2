"""The expiry of the certificate served to clients, as a metric."""

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

NAME = "edgewise_tls_certificate_expiry_timestamp_seconds"


class CertificateExpiry(Collector):
    """At each scrape, reads when the certificate in use expires: seconds since 1970, or None without one."""

    def __init__(self, seconds: Callable[[], float | None]) -> None:
        self._seconds = seconds

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the one metric, without a sample if there is no certificate."""
        yield GaugeMetricFamily(
            NAME, "When the certificate in use expires, in seconds since 1970.", value=self._seconds()
        )
