import struct

import pytest
from PIL import Image

from service.errors import UnsupportedImage
from service.images.pixels import decode
from tests.images.encoded import CROPPED, encode

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


@pytest.mark.parametrize(
    ("bits", "compression", "masks"),
    [
        (16, 3, (0xF00, 0xF0, 0xF)),
        (32, 3, (0x3FF00000, 0xFFC00, 0x3FF)),
        (32, 3, (0xFF, 0xFF00, 0xFF0000)),
        (32, 6, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        (24, 4, ()),
        (2, 0, ()),
    ],
)
def test_kinds_that_pillow_cannot_read_are_not_called_damaged(
    bits: int, compression: int, masks: tuple[int, ...]
) -> None:
    fields = struct.pack("<IiiHHIIiiII", 40, 1, 1, 1, bits, compression, 4, 0, 0, 0, 0)
    info = fields + struct.pack(f"<{len(masks)}I", *masks)
    data = struct.pack("<2sIHHI", b"BM", 18 + len(info), 0, 0, 14 + len(info)) + info + bytes(4)
    with pytest.raises(UnsupportedImage, match="BMP"):
        decode(data, CROPPED)


@pytest.mark.parametrize("compression", [1, 2])
def test_a_run_length_encoded_bmp_is_refused(compression: int) -> None:
    data = bytearray(encode(Image.new("P", (8, 8)), "BMP"))
    assert decode(bytes(data), CROPPED).size == (8, 8)
    data[30] = compression
    with pytest.raises(UnsupportedImage, match="run-length"):
        decode(bytes(data), CROPPED)
