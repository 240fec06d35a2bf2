"""The board's sensors as metrics: joules, temperatures, CPU frequencies, where there are any.

A thread of its own reads them, once a second: a sensor on a slow bus makes no request and no scrape
wait, power becomes energy, and a counter begins again unseen at most between two readings.
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

from service.monitoring.energy import EnergySensor, energy_sensors
from service.monitoring.heat import Sensor, frequencies, frequency_limits, temperatures
from service.monitoring.logs import SERVICE_LOGGER, fields
from service.monitoring.sysfs import answers, is_forbidden

INTERVAL_SECONDS = 1.0
# A reading that is older is not shown: the thread waits for a sensor that hangs.
MAX_AGE_SECONDS = 5.0

_log = logging.getLogger(SERVICE_LOGGER)

_Family = CounterMetricFamily | GaugeMetricFamily


@dataclass(frozen=True)
class _Readings:
    """What each sensor that answered said, by its name; `seconds` is the clock's time after the last one."""

    seconds: float = -MAX_AGE_SECONDS
    joules: dict[str, float] = field(default_factory=dict)
    celsius: dict[str, float] = field(default_factory=dict)
    hertz: dict[str, float] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)


class Sensors(Collector):
    """All sensors under a folder that is /sys, and what they said last."""

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
        """The files that are not for this process to read, and that nothing stands in for."""
        sensors: list[EnergySensor | Sensor] = [*self.energy, *self.temperatures, *self.frequencies]
        return [sensor.files[-1] for sensor in sensors if is_forbidden(sensor.files[-1])]

    def read(self) -> None:
        """Read all sensors; those that don't answer are left out until they do."""
        self._readings = _Readings(
            joules=answers((s.domain, functools.partial(s.joules, time.monotonic())) for s in self.energy),
            celsius=answers((s.name, s.value) for s in self.temperatures),
            hertz=answers((s.name, s.value) for s in self.frequencies),
            limits=answers((s.name, s.value) for s in self.limits),
            seconds=time.monotonic(),
        )

    def describe(self) -> Iterable[_Family]:
        """The metrics, without values."""
        return _families(_Readings())

    def collect(self) -> Iterable[_Family]:
        """The metrics of the sensors that answered, none where that is too long ago."""
        readings = self._readings
        if time.monotonic() - readings.seconds > MAX_AGE_SECONDS:
            return []
        return [family for family in _families(readings) if family.samples]


@contextmanager
def watched(root: Path, registry: CollectorRegistry) -> Iterator[None]:
    """Have the registry show the sensors under `root`, which is /sys, and say in the log which there are."""
    sensors = Sensors(root)
    _tell(sensors)
    registry.register(sensors)
    stopped = threading.Event()
    if sensors:
        # One that hangs in a sensor must not keep the process from ending.
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


def _tell(sensors: Sensors) -> None:
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
            "sensors are left out that this user may not read (see docs/energy.md)",
            extra=fields(files=[str(file) for file in forbidden]),
        )


def _families(readings: _Readings) -> list[_Family]:
    energy = CounterMetricFamily(
        "edgewise_energy_joules",
        "Joules since the service's start; a domain with a slash is a part of the one before it.",
        labels=["domain"],
    )
    temperature = GaugeMetricFamily(
        "edgewise_temperature_celsius", "Temperatures of the board.", labels=["zone"]
    )
    frequency = GaugeMetricFamily("edgewise_cpu_frequency_hertz", "What each CPU runs at.", labels=["cpu"])
    limit = GaugeMetricFamily(
        "edgewise_cpu_frequency_limit_hertz", "What each CPU is made to run at, at the most.", labels=["cpu"]
    )
    families: list[_Family] = [energy, temperature, frequency, limit]
    values = (readings.joules, readings.celsius, readings.hertz, readings.limits)
    for family, of in zip(families, values, strict=True):
        for name, value in of.items():
            family.add_metric([name], value)
    return families
