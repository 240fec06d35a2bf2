"""Temperatures under /sys, and CPU frequencies, which fall when a board gets too hot."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.sensors.sysfs import (
    channel_name,
    channels,
    chips,
    folders,
    is_there,
    read_name,
    read_number,
    unique,
)

MILLI = 1e-3
KILO = 1e3
# Nothing is colder: drivers without a reading report such numbers.
ABSOLUTE_ZERO_CELSIUS = -273.15


@dataclass(frozen=True)
class Sensor:
    """A directly readable value: the number in the first of `files` that holds one, times `unit`."""

    name: str
    files: tuple[Path, ...]
    unit: float
    least: float = 0.0

    def value(self) -> float:
        """Return the current value.

        Raises:
            OSError, ValueError: there is none, or an impossible one.
        """
        value = self._number() * self.unit
        if value < self.least:
            raise ValueError(f"{value} is less than {self.least}")
        return value

    def _number(self) -> int:
        *others, last = self.files
        for file in others:
            try:
                return read_number(file)
            except (OSError, ValueError):
                continue
        return read_number(last)


def temperatures(root: Path) -> list[Sensor]:
    """Return all temperatures under `root`, which is /sys, in °C: zones, then chips without a zone."""
    found = [*_zones(root), *_edge_tpus(root)]
    found += _chips(root, {name for name, _, _ in found})
    names = unique([name for name, _, _ in found], [place for _, place, _ in found])
    return [
        Sensor(name, (file,), MILLI, ABSOLUTE_ZERO_CELSIUS)
        for name, (_, _, file) in zip(names, found, strict=True)
    ]


def frequencies(root: Path) -> list[Sensor]:
    """Return the current frequency of each CPU, as far as the kernel knows, in hertz; named by its number."""
    return _cpus(root, ("scaling_cur_freq",))


def frequency_limits(root: Path) -> list[Sensor]:
    """Return the maximum frequency of each CPU's hardware, in hertz.

    Not the current limit, `scaling_max_freq`, unless there is nothing else: a throttling kernel lowers it.
    """
    return _cpus(root, ("cpuinfo_max_freq", "scaling_max_freq"))


_Found = tuple[str, str, Path]


def _zones(root: Path) -> Iterator[_Found]:
    for folder in folders(root, "class/thermal/thermal_zone*"):
        yield read_name(folder / "type") or folder.name, folder.name, folder / "temp"


def _edge_tpus(root: Path) -> Iterator[_Found]:
    for folder in folders(root, "class/apex/apex_*"):
        yield folder.name, folder.name, folder / "temp"


def _chips(root: Path, zones: set[str]) -> Iterator[_Found]:
    # The kernel also shows every zone as a chip, with underscores in its name.
    shown = {name.replace("-", "_") for name in zones}
    if "x86_pkg_temp" in zones:
        shown.add("coretemp")
    for chip in chips(root):
        if chip.kind in shown or chip.device.startswith("thermal_zone"):
            continue
        for number in channels(chip, "temp"):
            yield channel_name(chip, "temp", number), chip.device, chip.folder / f"temp{number}_input"


def _cpus(root: Path, files: tuple[str, ...]) -> list[Sensor]:
    cpus = folders(root, "devices/system/cpu/cpu[0-9]*")
    return [
        Sensor(cpu.name.removeprefix("cpu"), tuple(cpu / "cpufreq" / file for file in files), KILO)
        for cpu in cpus
        if is_there(cpu / "cpufreq")
    ]
