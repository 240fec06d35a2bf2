"""Describes the device: its name, processors, memory and system; nothing that identifies the unit."""

import os
import platform
import re
import sys
from pathlib import Path

from service import VERSION
from service.errors import StartError
from service.host.cpu import board, features, processors
from service.inference.delegates import Delegate
from service.inference.runtime import RUNTIME
from service.results.report import MAX_TEXT, TEXT_CHARACTERS, Device, Software
from service.sensors.sysfs import folders, read_line

PROC = Path("/proc")
_ELF = b"\x7fELF"
# Where an ELF file has the machine that it is for.
_ELF_MACHINE = slice(18, 20)
# Placeholders that board makers leave in their firmware.
_NO_NAMES = {"", "to be filled by o.e.m.", "system product name", "default string", "not specified", "none"}


def describe_device(name: str | None, sysfs: Path, proc: Path = PROC) -> Device:
    """Describe this device; `name` is its name, or None for the name in its firmware.

    Raises:
        StartError: the firmware has no name, and none was given.
    """
    cpuinfo = _read(proc / "cpuinfo")
    machine = platform.machine()
    emulated = is_emulated(proc)
    if emulated and ("CPU part" in cpuinfo) != (machine == "aarch64"):
        cpuinfo = ""  # An emulator may show its host's.
    cpus = processors(cpuinfo)
    # Under emulation, the readable firmware is that of the host.
    found = name or (f"emulated {machine}" if emulated else _board_name(sysfs, cpuinfo))
    if not (cleaned := clean(found)):
        raise StartError(
            "neither a device tree nor DMI says what device this is; name it: --name 'Raspberry Pi 5'"
        )
    return Device(
        name=cleaned,
        machine=clean(machine),
        cpus={clean(kind): count for kind, count in cpus.items()} or {clean(machine): os.cpu_count() or 1},
        features=tuple(map(clean, features(cpuinfo))),
        governor=None if emulated else _governor(sysfs),
        memory_bytes=None if emulated else _memory_bytes(proc),
        emulated=emulated,
    )


def describe_software(delegate: Delegate) -> Software:
    """Describe the system and the programs that compute."""
    which = delegate.which
    return Software(
        os=clean(_system()),
        kernel=_kernel(platform.release()),
        python=clean(platform.python_version()),
        service=VERSION,
        runtime=clean(RUNTIME),
        # Only the file name: the folder of a library is private.
        delegate=clean(which.name if isinstance(which, Path) else str(which)),
    )


def is_emulated(proc: Path = PROC, executable: str = sys.executable) -> bool:
    """Return whether a program such as qemu-user runs this one on another kind of processor.

    Such a program emulates `uname` and /proc/self, but neither the kernel's own name for its machine (since
    Linux 6.1) nor /proc/thread-self, which has the program that the kernel runs: the emulator. This does not
    detect an emulated whole machine.
    """
    arch = _read(proc / "sys" / "kernel" / "arch").strip()
    if arch and arch != platform.machine():
        return True
    run = _elf_machine(proc / "thread-self" / "exe")
    own = _elf_machine(Path(executable))
    return run is not None and own is not None and run != own


def clean(text: str) -> str:
    """Return text in the form that a report allows: other characters become spaces, and long text is cut."""
    blanked = re.sub(f"[^{TEXT_CHARACTERS}]", " ", text)
    return " ".join(blanked.split())[:MAX_TEXT].rstrip()


def _board_name(sysfs: Path, cpuinfo: str) -> str:
    tree = _first_line(sysfs / "firmware/devicetree/base/model")
    return tree or board(cpuinfo) or _dmi_name(sysfs / "class/dmi/id")


def _dmi_name(folder: Path) -> str:
    vendor = _first_line(folder / "sys_vendor")
    for file in ("product_name", "board_name"):
        product = _first_line(folder / file)
        if product.lower() not in _NO_NAMES:
            known = vendor.lower() in _NO_NAMES or product.startswith(vendor)
            return product if known else f"{vendor} {product}"
    return ""


def _governor(sysfs: Path) -> str | None:
    policies = folders(sysfs, "devices/system/cpu/cpufreq/policy[0-9]*")
    names = dict.fromkeys(_first_line(policy / "scaling_governor") for policy in policies)
    return clean(", ".join(filter(None, names))) or None


def _memory_bytes(proc: Path) -> int | None:
    match = re.search(r"^MemTotal: +([1-9]\d{0,15}) kB$", _read(proc / "meminfo"), re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):  # Not Linux, or an image without that file.
        return platform.system() or "unknown"


def _kernel(release: str) -> str:
    # Whoever built the kernel chose what follows the version, which may be their name.
    match = re.match(r"\d+(\.\d+)*", release)
    return match[0] if match else "unknown"


def _elf_machine(file: Path) -> bytes | None:
    """Return the machine that a program is for, or None if that can't be read."""
    try:
        with file.open("rb") as program:
            head = program.read(_ELF_MACHINE.stop)
    except OSError:
        return None
    return head[_ELF_MACHINE] if head.startswith(_ELF) and len(head) == _ELF_MACHINE.stop else None


def _first_line(file: Path) -> str:
    try:
        # Strings in a device tree end with a null byte.
        return clean(read_line(file).rstrip(b"\0").decode("utf-8", "replace"))
    except OSError:
        return ""


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
