"""Cut everything off shared libraries that is not loaded: debug information, symbols for linkers.

usage: python3 strip.py FOLDER

For libraries of any machine, which the build machine's own `strip` may not know: the dynamic loader reads no
further than the last segment, and not the sections' headers. Files that are no 64-bit little-endian ELF stay
as they are.
"""

import struct
import sys
from pathlib import Path

ELF = b"\x7fELF\x02\x01"
# In the header: the offset of the segments' headers and of the sections'; the size and number of the former;
# the size and number of the latter, and which one has their names.
SEGMENTS, SECTIONS, SEGMENT_SIZES, SECTION_SIZES = 32, 40, 54, 58
# In a segment's header: its offset; and its size in the file.
OFFSET, SIZE = 8, 32


def stripped(library: bytes) -> bytes:
    """The library up to the end of its last segment, without sections."""
    (start,) = struct.unpack_from("<Q", library, SEGMENTS)
    size, number = struct.unpack_from("<HH", library, SEGMENT_SIZES)
    headers = range(start, start + size * number, size)
    ends = [
        struct.unpack_from("<Q", library, header + OFFSET)[0]
        + struct.unpack_from("<Q", library, header + SIZE)[0]
        for header in headers
    ]
    kept = bytearray(library[: max(start + size * number, *ends)])
    struct.pack_into("<Q", kept, SECTIONS, 0)
    struct.pack_into("<HHH", kept, SECTION_SIZES, 0, 0, 0)
    return bytes(kept)


for path in Path(sys.argv[1]).rglob("*.so*"):
    content = path.read_bytes()
    if content.startswith(ELF):
        path.write_bytes(stripped(content))
