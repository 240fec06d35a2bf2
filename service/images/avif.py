"""What Pillow leaves to its caller when it reads hostile AVIFs.

The header can lie about the size: the decoder scales whatever is coded to the size in the header. A file
of 2 kB can claim 64 × 64 pixels, code 16,384 × 16,384, and take a gigabyte.
"""

import struct
from collections.abc import Iterator

from service.errors import CorruptImage, UnsupportedImage

_MAX_PIECES = 10_000
# For the tables that list items: a picture of 256 tiles needs 12 KiB. The decoder looks up each item in them
# by linear search, so its time grows with the square of their size.
_MAX_TABLE_BYTES = 32 * 1024
_TABLES = (b"iloc", b"iinf", b"iref", b"ipma")
_SEQUENCE_HEADER = 1
_FULL_BOX = 4
_EXIF_ITEM, _UNKNOWN_ITEM = b"Exif", b"none"
_HAS_EXTENSION, _HAS_SIZE = 0x04, 0x02


def coded_pixels(data: bytes) -> int:
    """Return the total pixels of all pictures in the file, including tiles, transparency and previews.

    Raises:
        UnsupportedImage: the file is a sequence; a picture is coded like a frame of one, which can
            change the size; or a picture is stored in several places.
        CorruptImage: the file is damaged, or has more pieces than any encoder writes.
    """
    pixels = units = 0
    try:
        if _is_sequence(data):
            raise UnsupportedImage("the AVIF is a sequence of images; only still images are supported")
        for item in _items(data):
            for kind, payload in _units(item):
                units += 1
                if units > _MAX_PIECES:
                    raise _in_pieces()
                if kind == _SEQUENCE_HEADER:
                    pixels += _frame_pixels(payload)
    except (struct.error, IndexError):
        raise _damaged() from None
    return pixels


def without_exif(data: bytes) -> bytes:
    """Return the AVIF with its EXIF marked as something that the decoder ignores.

    An AVIF's orientation does not depend on it (MIAF, ISO/IEC 23000-22), but Pillow parses all of it when
    it opens a file, and refuses the file if the EXIF is broken.

    Raises:
        CorruptImage: the file is damaged, or has more pieces than any encoder writes.
    """
    if _EXIF_ITEM not in data:
        return data
    changed = bytearray(data)
    try:
        for kind, content in _tables_of_items(memoryview(changed)):
            if kind == b"iinf":
                content[:] = bytes(content).replace(_EXIF_ITEM, _UNKNOWN_ITEM)
    except struct.error:
        raise _damaged() from None
    return bytes(changed)


def _is_sequence(data: bytes) -> bool:
    """Return whether the decoder would read frames of a track instead of the picture."""
    main_brand = data[8:12]
    if main_brand == b"avif":
        return False
    return main_brand == b"avis" or any(kind == b"moov" for kind, _ in _boxes(memoryview(data)))


def _items(data: bytes) -> Iterator[memoryview]:
    """Yield the bytes of each item: coded pictures, but also others, such as EXIF."""
    view = memoryview(data)
    boxes = _tables_of_items(view)
    _check_tables(boxes)
    stored = b"".join(content for kind, content in boxes if kind == b"idat")
    for kind, content in boxes:
        if kind == b"iloc":
            for in_idat, start, length in _locations(content):
                source = memoryview(stored) if in_idat else view
                yield source[start : start + length] if length else source[start:]


def _tables_of_items(view: memoryview) -> list[tuple[bytes, memoryview]]:
    """Return the type and content of each box that describes items; none without such boxes."""
    metas = [content for kind, content in _boxes(view) if kind == b"meta"]
    if len(metas) > 1:
        raise CorruptImage("the AVIF describes its items more than once")
    return list(_boxes(metas[0][_FULL_BOX:])) if metas else []


def _check_tables(boxes: list[tuple[bytes, memoryview]]) -> None:
    properties = [box for kind, content in boxes if kind == b"iprp" for box in _boxes(content)]
    for kind, content in properties:
        if kind == b"ipco":
            # Each property takes memory, however small it is: the iteration raises if there are too many.
            for _ in _boxes(content):
                pass
    tables = [content for kind, content in (*boxes, *properties) if kind in _TABLES]
    if sum(map(len, tables)) > _MAX_TABLE_BYTES:
        raise CorruptImage("the AVIF lists more items than any encoder writes")


def _boxes(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the type and content of each box."""
    position = 0
    for _ in range(_MAX_PIECES):
        if position + 8 > len(view):
            return
        size, kind = struct.unpack_from(">I4s", view, position)
        start = position + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", view, start)
            start += 8
        end = position + size if size else len(view)
        yield kind, view[start:end]
        position = max(start, end)
    raise _in_pieces()


def _locations(box: memoryview) -> Iterator[tuple[bool, int, int]]:
    """Yield whether each item is in `idat` or the file, its start, and its length (0: to the end)."""
    version = box[0]
    offset_size, length_size = box[4] >> 4, box[4] & 15
    base_size, index_size = box[5] >> 4, box[5] & 15 if version else 0
    wide = 4 if version == 2 else 2
    position = 6

    def take(size: int) -> int:
        nonlocal position
        if position + size > len(box):
            raise IndexError
        position += size
        return int.from_bytes(box[position - size : position], "big")

    for _ in range(take(wide)):
        take(wide)
        in_idat = take(2) & 15 == 1 if version else False
        take(2)
        base = take(base_size)
        if take(2) != 1:
            raise UnsupportedImage("the AVIF stores a picture in several places, which is not supported")
        take(index_size)
        start = base + take(offset_size)
        yield in_idat, start, take(length_size)


def _units(item: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the type and payload of each of the item's AV1 units (OBUs)."""
    position = 0
    while position < len(item):
        head = item[position]
        position += 2 if head & _HAS_EXTENSION else 1
        length = len(item) - position
        if head & _HAS_SIZE:
            length = 0
            for shift in range(0, 56, 7):
                byte = item[position]
                position += 1
                length |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
        yield head >> 3 & 15, item[position : position + length]
        position += length


def _frame_pixels(header: memoryview) -> int:
    """Return the number of pixels of a still picture, which its sequence header determines."""
    bits = int.from_bytes(bytes(header[:7]).ljust(7, b"\x00"), "big")
    left = 56

    def take(count: int) -> int:
        nonlocal left
        left -= count
        return bits >> left & (1 << count) - 1

    take(4)  # Profile, and whether it is still.
    if not take(1):
        raise UnsupportedImage(
            "the AVIF's picture is coded like a video frame; only still images are supported"
        )
    take(5)  # Level.
    width_bits, height_bits = take(4) + 1, take(4) + 1
    return (take(width_bits) + 1) * (take(height_bits) + 1)


def _damaged() -> CorruptImage:
    return CorruptImage("the AVIF data is truncated or damaged")


def _in_pieces() -> CorruptImage:
    return CorruptImage(f"the AVIF has more than {_MAX_PIECES} pieces")
