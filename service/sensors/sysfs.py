"""Reads the kernel's files under /sys, one number or one line each, without ever blocking."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_MAX_BYTES = 256
_MAX_NUMBER = 2**64
_MAX_NAME = 64


@dataclass(frozen=True)
class Chip:
    """A chip of /sys/class/hwmon: its kind, the board's name for it, its folder, its device's name."""

    kind: str
    name: str
    folder: Path
    device: str


def read_line(file: Path) -> bytes:
    """Return a file's line, without its line ending.

    Raises:
        OSError: it can't be read: it is gone, or its sensor does not respond.
    """
    # A pipe instead of a file would block the reader until someone writes.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(descriptor, _MAX_BYTES).strip()
    finally:
        os.close(descriptor)


def read_number(file: Path) -> int:
    """Return the integer that a file holds.

    Raises:
        OSError: it can't be read.
        ValueError: it holds something else.
    """
    number = int(read_line(file))
    if abs(number) > _MAX_NUMBER:
        raise ValueError(f"{file} does not hold a 64-bit number")
    return number


def read_name(file: Path) -> str:
    """Return the name that a file holds, in characters fit for a label; empty if there is none."""
    try:
        text = read_line(file).decode()
    except (OSError, UnicodeDecodeError):
        return ""
    # A slash is replaced too: it separates a part from its whole.
    return re.sub(r"[^\w .+-]", "_", text)[:_MAX_NAME]


def is_there(path: Path) -> bool:
    """Return whether there is a file or folder, whatever its content."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def device_of(folder: Path) -> str:
    """Return the name of the device that a folder of /sys/class belongs to: `1-0040`, `thermal_zone0`."""
    return Path(os.path.realpath(folder / "device")).name


def folders(root: Path, pattern: str) -> list[Path]:
    """Return the folders that match the pattern, in the order of the numbers in their names."""
    return sorted(
        (path for path in root.glob(pattern) if is_there(path)),
        key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)],
    )


def chips(root: Path) -> Iterator[Chip]:
    """Yield the hardware monitoring chips."""
    for folder in folders(root, "class/hwmon/hwmon*"):
        if kind := read_name(folder / "name"):
            # Not named by hwmon's number: that depends on what the kernel finds first.
            yield Chip(kind, read_name(folder / "label") or kind, folder, device_of(folder))


def channels(chip: Chip, kind: str) -> list[int]:
    """Return the numbers of a chip's inputs of this kind: `temp`, `power`, `energy`."""
    names = (file.name for file in chip.folder.glob(f"{kind}*_input"))
    found = (re.fullmatch(rf"{kind}(\d+)_input", name) for name in names)
    return sorted(int(match[1]) for match in found if match)


def channel_name(chip: Chip, kind: str, number: int) -> str:
    """Return the chip's name with the channel's label, or its number if the chip has several channels."""
    label = read_name(chip.folder / f"{kind}{number}_label")
    if not label and len(channels(chip, kind)) > 1:
        label = f"{kind}{number}"
    return f"{chip.name}:{label}" if label else chip.name


def unique(names: Sequence[str], places: Sequence[str]) -> list[str]:
    """Return the names without duplicates: their sensors' places are appended, then numbers if needed."""
    often = Counter(names)
    distinct = [
        f"{name}@{place}" if often[name] > 1 else name for name, place in zip(names, places, strict=True)
    ]
    seen: Counter[str] = Counter()
    for number, name in enumerate(distinct):
        seen[name] += 1
        if seen[name] > 1:
            distinct[number] = f"{name}#{seen[name]}"
    return distinct


def read_all(sensors: Iterable[tuple[str, Callable[[], float]]]) -> dict[str, float]:
    """Return the value of each sensor, given by its name and how to read it.

    Sensors that don't respond with a number are omitted.
    """
    values = {}
    for name, read in sensors:
        try:
            values[name] = read()
        except (OSError, ValueError):
            continue
    return values


def is_forbidden(file: Path) -> bool:
    """Return whether the file exists but this process has no permission to read it."""
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_NONBLOCK))
    except PermissionError:
        return True
    except OSError:
        return False
    return False
