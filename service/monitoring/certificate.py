"""When the certificate expires that clients get."""

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

NAME = "edgewise_tls_certificate_expiry_timestamp_seconds"


class CertificateExpiry(Collector):
    """Asks at each scrape when the certificate in use expires, in seconds since 1970; None: there is none."""

    def __init__(self, seconds: Callable[[], float | None]) -> None:
        self._seconds = seconds

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The one metric, without a value where there is none."""
        yield GaugeMetricFamily(
            NAME, "When the certificate in use expires, in seconds since 1970.", value=self._seconds()
        )
