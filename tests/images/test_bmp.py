import struct

import pytest

from service.images.pixels import decode
from tests.images.encoded import CROPPED

MASKS = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)


def bmp(header: int, pixels: list[tuple[int, int, int, int]]) -> bytes:
    """One row of pixels (blue, green, red, alpha); a header of more than 40 bytes has masks."""
    masks = struct.pack("<4I", *MASKS) if header > 40 else b""
    fields = struct.pack("<IiiHHIIiiII", header, len(pixels), 1, 1, 32, 3 if masks else 0, 0, 0, 0, 0, 0)
    info = (fields + masks).ljust(header, b"\x00")
    return struct.pack("<2sIHHI", b"BM", 0, 0, 0, 14 + header) + info + b"".join(map(bytes, pixels))


@pytest.mark.parametrize("header", [40, 108, 124])
def test_an_alpha_of_zero_everywhere_is_ignored(header: int) -> None:
    image = decode(bmp(header, [(1, 2, 3, 0), (4, 5, 6, 0)]), CROPPED)
    assert [image.getpixel((x, 0)) for x in range(2)] == [(3, 2, 1), (6, 5, 4)]


@pytest.mark.parametrize("header", [108, 124])
def test_any_other_alpha_is_blended_with_white(header: int) -> None:
    image = decode(bmp(header, [(1, 2, 3, 0), (4, 5, 6, 255)]), CROPPED)
    assert [image.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (6, 5, 4)]
