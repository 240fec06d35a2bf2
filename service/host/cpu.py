"""The processors of a machine, from the kernel's `cpuinfo`."""

import re
from collections import Counter

# What the runtime's kernels check for; `hypervisor` means a virtual machine.
_FEATURES = re.compile(
    r"sse4_[12]|avx\w*|fma|f16c|amx\w*|asimd|asimddp|asimdhp|fphp|i8mm|bf16|sve\w*|sme(?:|\w*\d\w*)|hypervisor"
)

_ARM, _NVIDIA, _QUALCOMM, _APPLE = 0x41, 0x4E, 0x51, 0x61

# By implementer and part number, as in the Main ID Register of Arm processors.
_NAMES = {
    (_ARM, 0xD03): "Cortex-A53",
    (_ARM, 0xD04): "Cortex-A35",
    (_ARM, 0xD05): "Cortex-A55",
    (_ARM, 0xD07): "Cortex-A57",
    (_ARM, 0xD08): "Cortex-A72",
    (_ARM, 0xD09): "Cortex-A73",
    (_ARM, 0xD0A): "Cortex-A75",
    (_ARM, 0xD0B): "Cortex-A76",
    (_ARM, 0xD0C): "Neoverse-N1",
    (_ARM, 0xD0D): "Cortex-A77",
    (_ARM, 0xD0E): "Cortex-A76AE",
    (_ARM, 0xD40): "Neoverse-V1",
    (_ARM, 0xD41): "Cortex-A78",
    (_ARM, 0xD42): "Cortex-A78AE",
    (_ARM, 0xD44): "Cortex-X1",
    (_ARM, 0xD46): "Cortex-A510",
    (_ARM, 0xD47): "Cortex-A710",
    (_ARM, 0xD48): "Cortex-X2",
    (_ARM, 0xD49): "Neoverse-N2",
    (_ARM, 0xD4B): "Cortex-A78C",
    (_ARM, 0xD4D): "Cortex-A715",
    (_ARM, 0xD4E): "Cortex-X3",
    (_ARM, 0xD4F): "Neoverse-V2",
    (_ARM, 0xD80): "Cortex-A520",
    (_ARM, 0xD81): "Cortex-A720",
    (_NVIDIA, 0x003): "Denver 2",
    (_NVIDIA, 0x004): "Carmel",
    (_QUALCOMM, 0x804): "Kryo 4xx Gold",
    (_QUALCOMM, 0x805): "Kryo 4xx Silver",
    (_APPLE, 0x022): "Icestorm (M1)",
    (_APPLE, 0x023): "Firestorm (M1)",
    (_APPLE, 0x032): "Blizzard (M2)",
    (_APPLE, 0x033): "Avalanche (M2)",
}


def processors(cpuinfo: str) -> Counter[str]:
    """Count the processors of each kind; those without a known name are named by their numbers."""
    return Counter(name for block in _blocks(cpuinfo) if (name := _name(block)))


def features(cpuinfo: str) -> list[str]:
    """Return the processor's relevant features, by the kernel's names; of several kinds, those all have."""
    found = [
        set(re.split(r"\s+", block.get("flags") or block.get("Features") or "")) for block in _blocks(cpuinfo)
    ]
    return sorted(filter(_FEATURES.fullmatch, set.intersection(*found))) if found else []


def board(cpuinfo: str) -> str:
    """Return the board's name if the kernel gives it, as on a Raspberry Pi; otherwise an empty string."""
    match = re.search(r"^Model\t*: *(.+)$", cpuinfo, re.MULTILINE)
    return match[1] if match else ""


def _blocks(cpuinfo: str) -> list[dict[str, str]]:
    """Return the fields of each processor, without those of the board, which can follow the last one."""
    blocks = []
    for text in cpuinfo.split("\n\n"):
        pairs = (line.partition(":") for line in text.splitlines())
        block = {key.strip(): value.strip() for key, _, value in pairs}
        if "processor" in block:
            blocks.append(block)
    return blocks


def _name(block: dict[str, str]) -> str:
    implementer, part = block.get("CPU implementer"), block.get("CPU part")
    if implementer is None or part is None:
        return block.get("model name", "")
    try:
        return _NAMES[int(implementer, 16), int(part, 16)]
    except (KeyError, ValueError):
        return f"implementer {implementer}, part {part}"
