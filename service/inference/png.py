"""Whether a PNG holds all the rows that its header promises.

Pillow leaves rows black that a well-formed but short data stream does not reach, and says nothing.
"""

import struct
import zlib
from collections.abc import Iterator

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_CHUNK = 1 << 18
# First column, first row, and the steps between them, of each of Adam7's passes.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def is_whole(data: bytes) -> bool:
    """Whether the picture's data inflates to as many bytes as the header promises.

    `data` is a PNG that a decoder took without an error. Costs one inflation, in little memory.
    """
    missing = _inflated_size(data)
    inflater = zlib.decompressobj()
    for block in _picture_data(data):
        while block and missing > 0:
            try:
                missing -= len(inflater.decompress(block, _CHUNK))
            except zlib.error:
                return False
            block = inflater.unconsumed_tail
    return missing - len(inflater.flush()) <= 0


def _inflated_size(data: bytes) -> int:
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    size = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            size += rows * (1 + (columns * bits * _CHANNELS[colour] + 7) // 8)
    return size


def _picture_data(data: bytes) -> Iterator[bytes]:
    position = 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IDAT":
            yield data[position + 8 : position + 8 + length]
        position += 12 + length
