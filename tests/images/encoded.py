"""Image bytes for the tests of the ingest contract."""

import struct
import zlib
from io import BytesIO
from typing import Any

from PIL import Image

from service.bundle.manifest import Filter, Preprocessing, Resize
from service.images.pixels import decode

ORIENTATION = 0x0112

CROPPED = Preprocessing(
    height=224, width=224, resize=Resize.SHORTER_SIDE, crop_fraction=0.875, filter=Filter.BICUBIC
)
LOSSLESS = {"PNG": {}, "BMP": {}, "WEBP": {"lossless": True, "exact": True}}


def encode(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block.tobytes()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    width: int,
    height: int,
    rows: bytes,
    *,
    bits: int = 8,
    colour: int = 2,
    interlaced: bool = False,
    before: bytes = b"",
) -> bytes:
    """A PNG of these filtered rows; `before` are chunks that go before them."""
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    chunks = [
        png_chunk(b"IHDR", head),
        before,
        png_chunk(b"IDAT", zlib.compress(rows)),
        png_chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def pixel(data: bytes) -> tuple[int, ...]:
    """The first pixel of the decoded image."""
    colour = decode(data, CROPPED).getpixel((0, 0))
    assert isinstance(colour, tuple)
    return colour
