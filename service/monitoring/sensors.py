"""The board's sensors as metrics: joules, temperatures and CPU frequencies, if there are any.

A thread of its own reads them once a second. So a sensor on a slow bus delays neither requests nor
scrapes, power can be integrated to energy, and no counter wraps around twice unseen.
"""

import functools
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from service.monitoring.logs import SERVICE_LOGGER, fields
from service.sensors.energy import EnergySensor, energy_sensors
from service.sensors.sysfs import is_forbidden, read_all
from service.sensors.thermal import Sensor, frequencies, frequency_limits, temperatures

INTERVAL_SECONDS = 1.0
# Older readings are not shown: the thread is waiting for a sensor that hangs.
MAX_AGE_SECONDS = 5.0

_log = logging.getLogger(SERVICE_LOGGER)

_Family = CounterMetricFamily | GaugeMetricFamily


@dataclass(frozen=True)
class _Readings:
    """The values of sensors that responded, by name; `seconds` is the monotonic time after the last one."""

    seconds: float = -MAX_AGE_SECONDS
    joules: dict[str, float] = field(default_factory=dict)
    celsius: dict[str, float] = field(default_factory=dict)
    hertz: dict[str, float] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)


class Sensors(Collector):
    """All sensors under a folder, normally /sys, and their last readings."""

    def __init__(self, root: Path) -> None:
        self.energy = energy_sensors(root)
        self.temperatures = temperatures(root)
        self.frequencies = frequencies(root)
        self.limits = frequency_limits(root)
        self._readings = _Readings()

    def __bool__(self) -> bool:
        return bool(self.energy or self.temperatures or self.frequencies)

    @property
    def forbidden(self) -> list[Path]:
        """The sensors' files that this process has no permission to read, and that have no substitute."""
        sensors: list[EnergySensor | Sensor] = [*self.energy, *self.temperatures, *self.frequencies]
        return [sensor.files[-1] for sensor in sensors if is_forbidden(sensor.files[-1])]

    def read(self) -> None:
        """Read all sensors; those that don't respond are omitted until they do."""
        self._readings = _Readings(
            joules=read_all((s.domain, functools.partial(s.joules, time.monotonic())) for s in self.energy),
            celsius=read_all((s.name, s.value) for s in self.temperatures),
            hertz=read_all((s.name, s.value) for s in self.frequencies),
            limits=read_all((s.name, s.value) for s in self.limits),
            seconds=time.monotonic(),
        )

    def describe(self) -> Iterable[_Family]:
        """Return the metrics, without values."""
        return _families(_Readings())

    def collect(self) -> Iterable[_Family]:
        """Return the metrics of sensors that responded, or none if the last reading is too old."""
        readings = self._readings
        if time.monotonic() - readings.seconds > MAX_AGE_SECONDS:
            return []
        return [family for family in _families(readings) if family.samples]


@contextmanager
def watched(root: Path, registry: CollectorRegistry) -> Iterator[None]:
    """Show the sensors under `root`, which is /sys, in the registry, and log which there are."""
    sensors = Sensors(root)
    _log_found(sensors)
    registry.register(sensors)
    stopped = threading.Event()
    if sensors:
        # A daemon, since a hanging sensor must not keep the process from exiting.
        threading.Thread(target=_read_on, args=(sensors, stopped), name="sensors", daemon=True).start()
    try:
        yield
    finally:
        stopped.set()
        registry.unregister(sensors)


def _read_on(sensors: Sensors, stopped: threading.Event) -> None:
    while not stopped.is_set():
        sensors.read()
        stopped.wait(INTERVAL_SECONDS)


def _log_found(sensors: Sensors) -> None:
    if sensors:
        _log.info(
            "sensors found",
            extra=fields(
                energy=[sensor.domain for sensor in sensors.energy],
                temperature=[sensor.name for sensor in sensors.temperatures],
                cpu_frequency=[sensor.name for sensor in sensors.frequencies],
            ),
        )
    if forbidden := sensors.forbidden:
        _log.warning(
            "sensors that this user may not read are omitted (see docs/energy.md)",
            extra=fields(files=[str(file) for file in forbidden]),
        )


def _families(readings: _Readings) -> list[_Family]:
    energy = CounterMetricFamily(
        "edgewise_energy_joules",
        "Joules since the service's start; a domain with a slash is part of the one before the slash.",
        labels=["domain"],
    )
    temperature = GaugeMetricFamily(
        "edgewise_temperature_celsius", "Temperatures of the board.", labels=["zone"]
    )
    frequency = GaugeMetricFamily(
        "edgewise_cpu_frequency_hertz", "Current frequency of each CPU.", labels=["cpu"]
    )
    limit = GaugeMetricFamily(
        "edgewise_cpu_frequency_limit_hertz", "Maximum frequency of each CPU's hardware.", labels=["cpu"]
    )
    families: list[_Family] = [energy, temperature, frequency, limit]
    values = (readings.joules, readings.celsius, readings.hertz, readings.limits)
    for family, of in zip(families, values, strict=True):
        for name, value in of.items():
            family.add_metric([name], value)
    return families
