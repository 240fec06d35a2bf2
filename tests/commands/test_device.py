import platform
import re
import struct
import sys
from pathlib import Path

import pytest

from service.commands.device import clean, describe_device, describe_software, is_emulated
from service.errors import StartError
from service.inference.delegates import Delegate
from service.inference.runtime import RUNTIME
from service.results.report import Device, Heat, Software
from tests import cpuinfos
from tests.sensors import boards
from tests.sensors.boards import SERIAL, Tree, write_tree

MEMINFO = "MemTotal:        3882468 kB\nMemFree:         2500000 kB"
ARM64, X86_64 = 183, 62


def proc(root: Path, cpuinfo: str = "", **files: str) -> Path:
    """Write a /proc with this cpuinfo and these other files."""
    return write_tree(root / "proc", {"cpuinfo": cpuinfo, "meminfo": MEMINFO, **files})


def elf(machine: int) -> bytes:
    """The header of a 64-bit little-endian program for a machine."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, machine) + bytes(44)


@pytest.mark.parametrize(
    ("tree", "cpuinfo", "name", "kinds", "governor"),
    [
        (
            boards.RASPBERRY_PI_4,
            cpuinfos.RASPBERRY_PI_4,
            "Raspberry Pi 4 Model B Rev 1.4",
            {"Cortex-A72": 4},
            "ondemand",
        ),
        (
            boards.RASPBERRY_PI_5,
            cpuinfos.RASPBERRY_PI_5,
            "Raspberry Pi 5 Model B Rev 1.0",
            {"Cortex-A76": 4},
            "ondemand",
        ),
        (
            boards.JETSON_NANO,
            cpuinfos.JETSON_NANO,
            "NVIDIA Jetson Nano Developer Kit",
            {"Cortex-A57": 4},
            None,
        ),
        (
            boards.JETSON_ORIN_NANO,
            cpuinfos.JETSON_ORIN_NANO,
            "NVIDIA Jetson Orin Nano Developer Kit",
            {"Cortex-A78AE": 6},
            "schedutil",
        ),
        (
            boards.INTEL_NUC,
            cpuinfos.INTEL_NUC,
            "Intel(R) Client Systems NUC8i7BEH",
            {"Intel(R) Core(TM) i7-8559U CPU @ 2.70GHz": 8},
            "powersave",
        ),
    ],
)
def test_real_boards_are_described(
    tree: Tree, cpuinfo: str, name: str, kinds: dict[str, int], governor: str | None, tmp_path: Path
) -> None:
    device = describe_device(None, write_tree(tmp_path / "sys", tree), proc(tmp_path, cpuinfo))
    assert (device.name, device.cpus, device.governor) == (name, kinds, governor)
    assert device.memory_bytes == 3882468 * 1024
    assert device.machine == platform.machine()
    assert not device.emulated
    assert SERIAL not in device.model_dump_json()


def test_a_given_name_takes_precedence(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "sys", boards.RASPBERRY_PI_4)
    assert describe_device("Kitchen Pi, 64 bit", root, proc(tmp_path)).name == "Kitchen Pi, 64 bit"


def test_a_raspberry_pi_is_recognized_without_a_device_tree(tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    device = describe_device(None, tmp_path / "sys", proc(tmp_path, cpuinfos.RASPBERRY_PI_5))
    assert device.name == "Raspberry Pi 5 Model B Rev 1.0"


@pytest.mark.parametrize(
    ("firmware", "name"),
    [
        (boards.dmi("ASUSTeK", "System Product Name", "PRIME N100I-D D4"), "ASUSTeK PRIME N100I-D D4"),
        (boards.dmi("To Be Filled By O.E.M.", "N100", "N100"), "N100"),
        (boards.dmi("LENOVO", "LENOVO M70q", "3190"), "LENOVO M70q"),
    ],
)
def test_placeholders_in_dmi_are_left_out_of_the_name(firmware: Tree, name: str, tmp_path: Path) -> None:
    assert describe_device(None, write_tree(tmp_path / "sys", firmware), proc(tmp_path)).name == name


@pytest.mark.parametrize("name", [None, "", "\0\n|"])
@pytest.mark.parametrize("firmware", [{}, boards.dmi("Default string", "Default string", "Default string")])
def test_a_device_without_a_name_must_be_given_one(name: str | None, firmware: Tree, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "sys", {"kernel/version": "", **firmware})
    with pytest.raises(StartError, match="name it: --name 'Raspberry Pi 5'"):
        describe_device(name, root, proc(tmp_path))


def test_unknown_properties_are_left_out(tmp_path: Path) -> None:
    device = describe_device("a board", tmp_path / "no sys", tmp_path / "no proc")
    assert list(device.cpus) == [platform.machine()]
    assert (device.features, device.governor, device.memory_bytes) == ((), None, None)


def test_hostile_file_contents_are_cleaned(tmp_path: Path) -> None:
    tree = {
        "firmware/devicetree/base/model": "Pi <b>`|`</b>\x1b[31m \u202e" + 300 * "x",
        "devices/system/cpu/cpufreq/policy0/scaling_governor": "on|de\tmand",
    }
    cpuinfo = "processor\t: 0\nmodel name\t: <script>" + 5000 * "y" + "\nflags\t: avx |\n"
    device = describe_device(
        None, write_tree(tmp_path / "sys", tree), proc(tmp_path, cpuinfo, **{"sys/kernel/osrelease": "|"})
    )
    assert device.name.startswith("Pi b /b 31m xxx")
    assert len(device.name) <= 96
    assert device.governor == "on de mand"
    assert Device.model_validate_json(device.model_dump_json()) == device
    (tmp_path / "proc" / "meminfo").write_bytes(b"\xff\xfeMemTotal: many kB\n")
    (tmp_path / "proc" / "cpuinfo").write_bytes(b"\xff\xfe\n\n\xff")
    assert describe_device("x", tmp_path, tmp_path / "proc").memory_bytes is None


def test_text_is_cleaned_and_shortened_for_a_report() -> None:
    assert clean("  a\n\tb \0") == "a b"
    assert clean("Intel® Core™") == "Intel Core"
    assert clean(95 * "x" + " yz") == 95 * "x"


def test_every_character_that_clean_keeps_is_valid_in_a_report() -> None:
    kept = [text for code in range(sys.maxunicode + 1) if (text := clean(chr(code)))]
    assert {"²", "é", "٣"} < set(kept)
    heat = Heat(before=dict.fromkeys(kept, 40.0), after={}, clock=None)
    assert Heat.model_validate_json(heat.model_dump_json()) == heat


def test_software_names_a_library_without_its_folder() -> None:
    software = describe_software(Delegate(Path("/home/ada/lib/libfancy.so"), (("key", "secret"),)))
    assert software.delegate == "libfancy.so"
    assert software.runtime == RUNTIME
    assert software.python == platform.python_version()
    assert platform.release().startswith(software.kernel)
    assert re.fullmatch(r"[\d.]+", software.kernel)
    assert describe_software(Delegate.XNNPACK).delegate == "xnnpack"
    assert Software.model_validate_json(software.model_dump_json()) == software


@pytest.mark.parametrize(
    ("arch", "executable", "emulated"),
    [
        pytest.param(platform.machine(), None, False, id="the kernel has the same machine"),
        pytest.param("another", None, True, id="the kernel has another machine"),
        pytest.param(None, X86_64, True, id="the executable is an emulator"),
        pytest.param(None, ARM64, False, id="the executable is the program"),
        pytest.param(platform.machine(), X86_64, True, id="the emulator fakes the kernel's machine"),
        pytest.param(None, None, False, id="nothing is known"),
    ],
)
def test_emulation_is_detected_in_proc(
    arch: str | None, executable: int | None, emulated: bool, tmp_path: Path
) -> None:
    program = tmp_path / "python3"
    program.write_bytes(elf(ARM64))
    root = write_tree(tmp_path / "proc", {"sys/kernel/arch": arch} if arch else {"version": ""})
    if executable is not None:
        (root / "thread-self").mkdir()
        (root / "thread-self" / "exe").write_bytes(elf(executable))
    assert is_emulated(root, str(program)) is emulated


@pytest.mark.parametrize("program", [b"", b"#!/bin/sh\n", elf(X86_64)[:19]])
def test_an_invalid_executable_does_not_count_as_emulation(program: bytes, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "proc", {"thread-self/exe": ""})
    (root / "thread-self" / "exe").write_bytes(program)
    assert not is_emulated(root, sys.executable)


def test_an_emulated_device_is_not_described_as_its_host(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "sys", boards.INTEL_NUC)
    files = {"sys/kernel/arch": "another"}
    foreign = cpuinfos.INTEL_NUC if platform.machine() == "aarch64" else cpuinfos.RASPBERRY_PI_4
    device = describe_device(None, root, proc(tmp_path, foreign, **files))
    assert device.emulated
    assert device.name == f"emulated {platform.machine()}"
    assert list(device.cpus) == [platform.machine()]
    assert (device.features, device.governor, device.memory_bytes) == ((), None, None)
    assert (
        describe_device("qemu, Cortex-A72", root, proc(tmp_path, foreign, **files)).name == "qemu, Cortex-A72"
    )
