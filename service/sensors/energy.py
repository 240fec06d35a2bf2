"""Energy sensors under /sys: counters of microjoules, and power readings integrated over time.

A domain with a slash in its name is part of the domain before the slash.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from service.sensors.sysfs import (
    channel_name,
    channels,
    chips,
    device_of,
    folders,
    is_forbidden,
    is_there,
    read_name,
    read_number,
    unique,
)

# After a longer gap between two readings, their mean says nothing about the power in between.
MAX_GAP_SECONDS = 5.0

MICRO = 1e-6
MILLI = 1e-3

# Jetson rails that supply all others of the module, and a rail that is part of one of several supplies.
_SUPPLIES = ("VDD_IN", "POM_5V_IN", "5V_IN")
_PART_OF = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
_NOT_CONNECTED = "NC"


@dataclass
class EnergyCounter:
    """A counter of microjoules; it wraps around at `range_microjoules`, or never if that is 0."""

    domain: str
    file: Path
    range_microjoules: int = 0
    _before: int | None = field(default=None, init=False, repr=False)
    _microjoules: int = field(default=0, init=False, repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it reads."""
        return (self.file,)

    def joules(self, seconds: float) -> float:
        """Return the joules since the first reading; the time does not matter.

        Raises:
            OSError, ValueError: there is no reading now.
        """
        now = read_number(self.file)
        if self._before is not None:
            self._microjoules += self._spent(now - self._before)
        self._before = now
        return self._microjoules * MICRO

    def _spent(self, difference: int) -> int:
        if difference >= 0:
            return difference
        around = difference + self.range_microjoules
        # It can't have advanced more than half its range between readings: the counter was reset.
        return around if 0 <= around < self.range_microjoules / 2 else 0


@dataclass
class PowerSensor:
    """A power, integrated over its readings: the product of the numbers in `files`, times `watts`."""

    domain: str
    files: tuple[Path, ...]
    watts: float
    _before: tuple[float, float] | None = field(default=None, init=False, repr=False)
    _joules: float = field(default=0.0, init=False, repr=False)

    def joules(self, seconds: float) -> float:
        """Return the joules since the first reading; `seconds` is the current time of a monotonic clock.

        Raises:
            OSError, ValueError: there is no reading now.
        """
        # A sensor that measures in both directions reads slightly below zero when no current flows.
        power = max(0.0, math.prod(read_number(file) for file in self.files) * self.watts)
        if self._before is not None:
            then, before = self._before
            if seconds - then <= MAX_GAP_SECONDS:
                self._joules += (before + power) / 2 * (seconds - then)
        self._before = seconds, power
        return self._joules


EnergySensor = EnergyCounter | PowerSensor


def energy_sensors(root: Path) -> list[EnergySensor]:
    """Return all energy sensors under `root`, which is /sys, each with a unique domain."""
    rails = [*_hwmon_rails(root), *_iio_rails(root)]
    supply = next((rail.domain for rail in rails if rail.domain in _SUPPLIES), None)
    placed = [replace(rail, domain=_rail_domain(rail.domain, supply)) for rail in rails]
    found = [*_powercap(root), *_hwmon(root), *placed]
    domains = unique([s.domain for s in found], [_place(s.files[0]) for s in found])
    return [replace(sensor, domain=domain) for sensor, domain in zip(found, domains, strict=True)]


def counted_joules(root: Path) -> Callable[[], float] | None:
    """Return a function that returns the joules that all whole domains' counters have counted so far.

    None if there are no such counters, or one can't be read. If one fails later, the function returns NaN.
    Power sensors are not included: integrating them takes seconds.
    """
    counters = _whole_counters(root)

    def read() -> float:
        try:
            return sum(counter.joules(0.0) for counter in counters)
        except (OSError, ValueError):
            return math.nan

    return read if counters and not math.isnan(read()) else None


def forbidden_counters(root: Path) -> list[Path]:
    """Return the files that `counted_joules` would read, but that this user may not."""
    return [counter.file for counter in _whole_counters(root) if is_forbidden(counter.file)]


def _whole_counters(root: Path) -> list[EnergyCounter]:
    return [s for s in energy_sensors(root) if isinstance(s, EnergyCounter) and is_whole(s.domain)]


def is_whole(domain: str) -> bool:
    """Return whether the domain is neither part of another nor contains any, as `psys` does."""
    return "/" not in domain and domain != "psys"


def _powercap(root: Path) -> Iterator[EnergyCounter]:
    # Not intel-rapl-mmio: that is the same package, through another interface.
    for folder in folders(root, "class/powercap/intel-rapl:*"):
        name = read_name(folder / "name")
        if not name or not is_there(folder / "energy_uj"):
            continue
        zone = folder.name.rpartition(":")[0]
        if ":" in zone:
            name = _part(read_name(folder.parent / zone / "name") or zone, name)
        yield EnergyCounter(name, folder / "energy_uj", _range(folder / "max_energy_range_uj"))


def _part(package: str, name: str) -> str:
    # The package's counter includes its cores, but not the memory next to it.
    return package.replace("package", "dram", 1) if name == "dram" else f"{package}/{name}"


def _range(file: Path) -> int:
    try:
        return read_number(file)
    except (OSError, ValueError):
        return 0


def _hwmon(root: Path) -> Iterator[EnergySensor]:
    for chip in chips(root):
        # What a battery supplies is already measured at the packages; the rest only charges it.
        if chip.kind == "ina3221" or read_name(chip.folder / "device" / "type") == "Battery":
            continue
        counters = channels(chip, "energy")
        for number in counters:
            yield EnergyCounter(channel_name(chip, "energy", number), chip.folder / f"energy{number}_input")
        for number in [] if counters else channels(chip, "power"):
            file = chip.folder / f"power{number}_input"
            yield PowerSensor(channel_name(chip, "power", number), (file,), MICRO)


def _hwmon_rails(root: Path) -> Iterator[PowerSensor]:
    """Yield the rails of INA3221 chips: millivolts and milliamperes of three rails each."""
    for chip in chips(root):
        if chip.kind != "ina3221":
            continue
        for number in (1, 2, 3):
            files = (chip.folder / f"in{number}_input", chip.folder / f"curr{number}_input")
            rail = read_name(chip.folder / f"in{number}_label") or f"{chip.name}:{number}"
            if rail != _NOT_CONNECTED and all(map(is_there, files)):
                yield PowerSensor(rail, files, MICRO)


def _iio_rails(root: Path) -> Iterator[PowerSensor]:
    """Yield the rails of the same chip with the driver of Jetson Linux 32 and older: milliwatts."""
    for folder in folders(root, "bus/i2c/drivers/ina3221x/*/iio:device*"):
        for number in (0, 1, 2):
            file = folder / f"in_power{number}_input"
            rail = read_name(folder / f"rail_name_{number}") or f"ina3221x:{number}"
            if rail != _NOT_CONNECTED and is_there(file):
                yield PowerSensor(rail, (file,), MILLI)


def _rail_domain(rail: str, supply: str | None) -> str:
    if ":" in rail:  # Without a label: an add-on chip.
        return rail
    whole = _PART_OF.get(rail) if supply is None else supply
    return rail if whole is None or rail == whole else f"{whole}/{rail}"


def _place(file: Path) -> str:
    """Return the name of the file's device, which is the same after a reboot."""
    return device_of(file.parent) if file.parent.name.startswith("hwmon") else file.parent.name
