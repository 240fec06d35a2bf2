from prometheus_client import CollectorRegistry

from service.monitoring.busy import WorkerBusy


def test_busy_seconds_are_read_at_each_scrape() -> None:
    seconds, registry = [1.5], CollectorRegistry()
    registry.register(WorkerBusy(lambda: seconds[0]))
    assert registry.get_sample_value("edgewise_worker_busy_seconds_total") == 1.5
    seconds[0] = 2
    assert registry.get_sample_value("edgewise_worker_busy_seconds_total") == 2
