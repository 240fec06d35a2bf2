"""How many cores the process may use, by its affinity and the quota of its control groups."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

_SELF = Path("/proc/self")
_UNIFIED = "cgroup2"


def usable_cores(proc: Path = _SELF) -> int:
    """Return the cores that the affinity allows, or the quota if that is less, rounded down; at least 1.

    `proc` is the process's folder in /proc.
    """
    return max(1, math.floor(min(_affinity(), quota_cores(proc))))


def quota_cores(proc: Path = _SELF) -> float:
    """Return the cores that the control groups allow on average; infinity if there is no limit.

    A file that can't be read sets no limit.
    """
    return min(_quotas(proc), default=math.inf)


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity.
        return os.cpu_count() or 1


def _quotas(proc: Path) -> Iterator[float]:
    """Yield the limits, in cores, of the process's groups and their parents."""
    groups = _groups(proc)
    for kind, root, mount in _mounts(proc):
        if kind not in groups:
            continue
        group = mount
        if groups[kind].is_relative_to(root):
            group /= groups[kind].relative_to(root)
        for folder in (group, *group.parents):
            if not folder.is_relative_to(mount):
                break
            quota = _unified_quota(folder) if kind == _UNIFIED else _quota(folder)
            if quota is not None:
                yield quota


def _groups(proc: Path) -> dict[str, Path]:
    """Return the process's groups in the unified hierarchy and in that of the controller `cpu`."""
    groups = {}
    for line in _read(proc / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            groups[_UNIFIED] = Path(path)
        elif "cpu" in controllers.split(","):
            groups["cgroup"] = Path(path)
    return groups


def _mounts(proc: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield where these hierarchies are mounted: kind, mounted group, folder."""
    for line in _read(proc / "mountinfo").splitlines():
        place, _, source = line.partition(" - ")
        places, sources = place.split(), source.split()
        if len(places) < 5 or len(sources) < 3:
            continue
        if sources[0] == _UNIFIED or (sources[0] == "cgroup" and "cpu" in sources[2].split(",")):
            yield sources[0], Path(_unescaped(places[3])), Path(_unescaped(places[4]))


def _unified_quota(group: Path) -> float | None:
    return _ratio(*_read(group / "cpu.max").partition(" ")[::2])


def _quota(group: Path) -> float | None:
    return _ratio(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max", or a file that can't be read.
        return None
    return cores if cores > 0 else None  # In the older hierarchies, -1 means no limit.


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
