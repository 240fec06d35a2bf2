"""What Pillow leaves to its caller about BMPs."""

import struct

from PIL import Image

from service.errors import UnsupportedImage

# Where the oldest header, whose pictures are never compressed, has no more fields.
_OLDEST_HEADER_SIZE = 12
_RUN_LENGTHS = (1, 2)


def check(data: bytes) -> None:
    """See that the BMP is not run-length encoded.

    Pillow decodes that in Python, which would hold up all other threads for seconds a megabyte.

    Raises:
        UnsupportedImage: it is.
    """
    header = data[14:34].ljust(20, b"\x00")
    size, compression = struct.unpack_from("<I12xI", header)
    if size > _OLDEST_HEADER_SIZE and compression in _RUN_LENGTHS:
        raise UnsupportedImage("the BMP is run-length encoded, which is not read")


def without_unused_alpha(image: Image.Image) -> Image.Image:
    """The image without an alpha that is zero everywhere, as programs write it that have none to tell."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    return image
