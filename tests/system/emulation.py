"""The processors that run the arm64 image here, by emulation."""

import os
from pathlib import Path

EMULATION = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
# LiteRT reads the processor's part and features from /proc/cpuinfo, which the emulation does not fill in.
CPUINFO = """processor\t: {processor}
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: {part}
CPU revision\t: 3

"""
A72 = ("0xd08", "fp asimd evtstrm crc32 cpuid")
A76 = ("0xd0b", "fp asimd evtstrm crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp")


def as_cpu(folder: Path, cpu: str, shown: tuple[str, str]) -> list[str]:
    """Return podman's options to emulate this processor."""
    part, features = shown
    file = folder / "cpuinfo"
    cores = range(os.cpu_count() or 1)
    file.write_text("".join(CPUINFO.format(processor=core, part=part, features=features) for core in cores))
    return ["--init", f"--env=QEMU_CPU={cpu}", f"--volume={file}:/proc/cpuinfo:ro"]
