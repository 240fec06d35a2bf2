from prometheus_client import CollectorRegistry

from service.monitoring.certificate import NAME, CertificateExpiry


def test_it_is_asked_for_at_each_scrape_and_absent_where_there_is_none() -> None:
    expiries: list[float | None] = [None]
    registry = CollectorRegistry()
    registry.register(CertificateExpiry(lambda: expiries[0]))
    assert registry.get_sample_value(NAME) is None
    expiries[0] = 1.8e9
    assert registry.get_sample_value(NAME) == 1.8e9
