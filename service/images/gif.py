"""What Pillow leaves to its caller when it reads GIFs."""

import struct

from PIL import Image

from service.errors import CorruptImage

_SCREEN_SIZE, _CONTROL_SIZE = 13, 8
# The most that can come before the first frame, such as comments: it is read block by block.
_MAX_HEAD_BYTES = 1024 * 1024
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9
_HAS_TRANSPARENT = 0x01


def from_first_frame(data: bytes) -> bytes:
    """Return the GIF with only the global palette and the transparent colour before its first frame.

    A control block can also say how to dispose of the frame. Pillow prepares for that when it opens
    a file: it allocates a picture as large as the frame, before its caller can check the size.

    Raises:
        CorruptImage: there is no frame, or too much before it.
    """
    if len(data) < _SCREEN_SIZE:
        raise CorruptImage("the GIF ends within its header")
    palette_end = position = _SCREEN_SIZE + _palette_size(data[10])
    control = b""
    head = memoryview(data)[:_MAX_HEAD_BYTES]
    while position < len(head) and head[position] != _TRAILER:
        kind = head[position]
        if kind == _IMAGE:
            return b"".join([head[:palette_end], control, memoryview(data)[position:]])
        if kind == _EXTENSION:
            control = _control(data[position : position + _CONTROL_SIZE]) or control
            position = _blocks_end(head, position + 2)
        else:
            position += 1
    if position < len(data) and position >= len(head):
        raise CorruptImage(f"the GIF has more than {_MAX_HEAD_BYTES} bytes before its picture")
    raise CorruptImage("the GIF ends before its picture begins")


def clear_outside_frame(data: bytes, image: Image.Image) -> None:
    """Make everything outside the first frame white, as if it were transparent.

    Pillow shows the palette's first colour there if the frame has no transparent one. `data` is what
    `from_first_frame` returned, `image` was loaded from it.
    """
    frame = _SCREEN_SIZE + _palette_size(data[10])
    if data[frame] == _EXTENSION:
        frame += _CONTROL_SIZE
    left, top, width, height = struct.unpack_from("<4H", data, frame + 1)
    image.paste("white", (0, 0, image.width, top))
    image.paste("white", (0, top + height, image.width, image.height))
    image.paste("white", (0, top, left, top + height))
    image.paste("white", (left + width, top, image.width, top + height))


def _palette_size(flags: int) -> int:
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0


def _control(extension: bytes) -> bytes:
    """Return a graphic control block with only the transparent colour; empty if the extension has none."""
    if (
        len(extension) < _CONTROL_SIZE
        or extension[1] != _GRAPHIC_CONTROL
        or not extension[3] & _HAS_TRANSPARENT
    ):
        return b""
    return bytes([_EXTENSION, _GRAPHIC_CONTROL, 4, _HAS_TRANSPARENT, 0, 0, extension[6], 0])


def _blocks_end(data: memoryview, position: int) -> int:
    """Return the end of the chain of length-prefixed blocks that begins at `position`."""
    while position < len(data) and data[position]:
        position += 1 + data[position]
    return position + 1
