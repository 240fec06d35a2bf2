from prometheus_client import CollectorRegistry

from service.monitoring.certificate import NAME, CertificateExpiry


def test_the_expiry_is_read_at_each_scrape_and_absent_if_unknown() -> None:
    expiries: list[float | None] = [None]
    registry = CollectorRegistry()
    registry.register(CertificateExpiry(lambda: expiries[0]))
    assert registry.get_sample_value(NAME) is None
    expiries[0] = 1.8e9
    assert registry.get_sample_value(NAME) == 1.8e9
