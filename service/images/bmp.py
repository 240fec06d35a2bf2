"""What Pillow leaves to its caller when it reads BMPs."""

import re
import struct

from PIL import Image

from service.errors import UnsupportedImage

# The oldest header has no compression field: its pictures are never compressed.
_OLDEST_HEADER_SIZE = 12
_RUN_LENGTHS = (1, 2)
# What Pillow says of kinds that it can't read, such as 4 bits per channel or a JPEG inside.
_UNREADABLE = re.compile("Unsupported BMP (header|pixel|bitfields|compression)")


def check(data: bytes) -> None:
    """Refuse a run-length encoded BMP.

    Pillow decodes these in Python, which would hold up all other threads for seconds per megabyte.

    Raises:
        UnsupportedImage: the BMP is run-length encoded.
    """
    header = data[14:34].ljust(20, b"\x00")
    size, compression = struct.unpack_from("<I12xI", header)
    if size > _OLDEST_HEADER_SIZE and compression in _RUN_LENGTHS:
        raise UnsupportedImage("the BMP is run-length encoded, which is not supported")


def is_unreadable(error: Exception) -> bool:
    """Return whether Pillow raised `error` because it can't read this kind of BMP, sound or not."""
    return _UNREADABLE.match(str(error)) is not None


def without_unused_alpha(image: Image.Image) -> Image.Image:
    """Drop an alpha channel that is zero everywhere: some programs write one that they don't use."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    return image
