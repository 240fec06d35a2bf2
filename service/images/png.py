"""What Pillow leaves to its caller when it reads hostile PNGs."""

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from service.errors import CorruptImage

_SIGNATURE_SIZE = 8
_MAX_CHUNKS = 100_000
_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_ORIENTATION = b"eXIf"

_BITS, _COLOUR = 24, 25
_GREY, _RGB = 0, 2
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column, first row, column step and row step of each Adam7 pass.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_INFLATED_BLOCK = 1 << 18


def bare(data: bytes) -> bytes:
    """Return the PNG without the chunks that its pixels do not depend on, except the EXIF chunk.

    Texts and colour profiles can inflate to far more than their size, or have the name of something
    else that Pillow keeps in the same dictionary. EXIF in a text chunk, such as the
    "Raw profile type exif" of old programs, is therefore not read.

    Raises:
        CorruptImage: it has more chunks than any encoder writes, or picture data that is damaged.
    """
    parts = [memoryview(data)[:_SIGNATURE_SIZE]]
    for kind, chunk in _chunks(data):
        if kind in _PICTURE or kind == _ORIENTATION:
            parts.append(chunk)
        # Pillow checks every other chunk, but neither this checksum nor that of the data inside.
        if kind == b"IDAT" and zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:]):
            raise CorruptImage("the PNG data is truncated or damaged")
    return b"".join(parts)


def mend_transparency(data: bytes, image: Image.Image) -> None:
    """Scale the transparent colour as Pillow scaled the samples: Pillow leaves it as it is in the file.

    `data` is the file that `image` was loaded from.
    """
    bits, colour, transparent = data[_BITS], data[_COLOUR], image.info.get("transparency")
    if colour == _RGB and bits == 16 and isinstance(transparent, tuple):
        image.info["transparency"] = tuple(sample >> 8 for sample in transparent)
    elif colour == _GREY and bits in (2, 4) and isinstance(transparent, int):
        image.info["transparency"] = transparent * 255 // ((1 << bits) - 1)


def is_whole(data: bytes) -> bool:
    """Return whether the picture's data inflates to as many bytes as the header promises.

    If the data stream is well-formed but too short, Pillow leaves the missing rows black and reports
    nothing. `data` is a PNG that Pillow has accepted. This costs one inflation and little memory.
    """
    missing = _inflated_size(data)
    inflater = zlib.decompressobj()
    for kind, chunk in _chunks(data):
        block = bytes(chunk[8:-4]) if kind == b"IDAT" else b""
        while block and missing > 0:
            try:
                missing -= len(inflater.decompress(block, _INFLATED_BLOCK))
            except zlib.error:
                return False
            block = inflater.unconsumed_tail
    return missing <= 0


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield each chunk's type and its bytes, including length and checksum; the last can be cut off."""
    view = memoryview(data)
    position = _SIGNATURE_SIZE
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, position)
        yield kind, view[position : position + 12 + length]
        position += 12 + length
    raise CorruptImage(f"the PNG has more than {_MAX_CHUNKS} chunks")


def _inflated_size(data: bytes) -> int:
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    size = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            size += rows * (1 + (columns * bits * _CHANNELS[colour] + 7) // 8)
    return size
