"""The board's sensors during a measurement: joules, and CPU frequencies."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from service.sensors.energy import EnergySensor, energy_sensors, is_whole
from service.sensors.thermal import Sensor, frequencies, frequency_limits

# Often enough that power, integrated over its readings, is meaningful within a second.
INTERVAL_SECONDS = 0.1


@dataclass
class Readings:
    """What the sensors read: `joules` of all whole domains, None without a sensor or if one failed.

    `clock_shares`: for each reading, the fastest CPUs' mean frequency as a share of their maximum.
    """

    joules: float | None = None
    clock_shares: list[float] = field(default_factory=list)


@contextmanager
def watched_sensors(root: Path, cpus: int) -> Iterator[Readings]:
    """Watch the sensors under `root`, which is /sys, while `cpus` CPUs are busy; complete at the end."""
    readings = Readings()
    energy = [sensor for sensor in energy_sensors(root) if is_whole(sensor.domain)]
    clocks = list(zip(frequencies(root), frequency_limits(root), strict=True))
    joules = [_joules(energy)]
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.wait(INTERVAL_SECONDS):
            joules.append(_joules(energy))
            shares = sorted(filter(None, (_share(*clock) for clock in clocks)), reverse=True)[:cpus]
            if shares:
                readings.clock_shares.append(sum(shares) / len(shares))

    thread = threading.Thread(target=watch, name="readings", daemon=True)
    thread.start()
    try:
        yield readings
    finally:
        stopped.set()
        thread.join()
    joules.append(_joules(energy))
    if energy and not any(map(math.isnan, joules)):
        readings.joules = joules[-1] - joules[0]


def _joules(sensors: list[EnergySensor]) -> float:
    try:
        return sum(sensor.joules(time.monotonic()) for sensor in sensors)
    except (OSError, ValueError):
        return math.nan


def _share(now: Sensor, limit: Sensor) -> float | None:
    try:
        return now.value() / limit.value()
    except (OSError, ValueError, ZeroDivisionError):
        return None
