"""The pinned requirements, as the files of requirements/ state them."""

import re
from pathlib import Path

REQUIREMENTS = Path(__file__).parent.parent / "requirements"


def pins(name: str) -> dict[str, list[str]]:
    """The pins of a compiled file, with their markers, and their hashes."""
    text = (REQUIREMENTS / f"{name}.txt").read_text()
    blocks = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "").splitlines()
    return {
        block.split("--hash=")[0].strip(): re.findall(r"--hash=sha256:([0-9a-f]{64})\b", block)
        for block in blocks
    }
