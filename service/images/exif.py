"""The orientation from an EXIF block, even if the rest of the block is damaged."""

import struct

_ORIENTATION = 0x0112
_SHORT = 3
_BYTE_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}


def orientation(exif: bytes) -> int:
    r"""Return the orientation (1 to 8) that an EXIF block specifies; 1 if there is none or it is broken.

    `exif` starts with a TIFF header, with or without `Exif\0\0` before it.
    """
    tiff = exif.removeprefix(b"Exif\x00\x00")
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for index in range(entries):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * index)
            if tag == _ORIENTATION:
                return value if kind == _SHORT and count == 1 and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1
