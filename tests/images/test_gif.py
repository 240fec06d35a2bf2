import resource
import struct

import numpy as np
import pytest
from PIL import Image

from service.errors import CorruptImage, ImageTooLarge, UnsupportedImage
from service.images.gif import from_first_frame
from service.images.pixels import decode
from tests.images.encoded import CROPPED, encode

COMMENT = b"\x21\xfe\x05hello\x00"
LOOP = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"


def control(*, dispose: int = 0, transparent: int | None = None) -> bytes:
    flags = dispose << 2 | (transparent is not None)
    return b"\x21\xf9\x04" + bytes([flags, 0, 0, transparent or 0, 0])


def gif(*before: bytes, side: int = 2) -> bytes:
    """Screen and frame of `side` pixels; the frame's data has four: black, white, white, black."""
    screen = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + b"\x00\x00\x00\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x03\x44\x02\x05\x00"
    return screen + b"".join(before) + frame + b"\x3b"


def test_blocks_before_the_first_frame_do_not_change_it() -> None:
    plain = decode(gif(), CROPPED).tobytes()
    assert np.frombuffer(plain, np.uint8)[::3].tolist() == [0, 255, 255, 0]
    for before in [(COMMENT,), (LOOP, control(dispose=2)), (control(dispose=1), COMMENT), (b"\x00",)]:
        assert decode(gif(*before), CROPPED).tobytes() == plain


def test_the_transparent_colour_is_kept() -> None:
    kept = from_first_frame(gif(LOOP, control(dispose=2, transparent=0), COMMENT))
    assert kept == gif(control(transparent=0))
    assert decode(kept, CROPPED).getcolors() == [(4, (255, 255, 255))]


def test_a_frame_may_have_its_own_palette() -> None:
    red = Image.new("P", (3, 3))
    red.putpalette([255, 0, 0])
    file = encode(Image.new("L", (3, 3)), "GIF", save_all=True, append_images=[red])
    assert decode(file, CROPPED).getpixel((1, 1)) == (0, 0, 0)
    assert decode(encode(red, "GIF"), CROPPED).getpixel((1, 1)) == (255, 0, 0)


def test_too_much_data_before_the_first_frame_is_refused() -> None:
    assert decode(gif(b"\x21\xfe" + b"\xff".ljust(256, b".") * 4000 + b"\x00"), CROPPED).size == (2, 2)
    with pytest.raises(CorruptImage, match="before its picture"):
        decode(gif(b"\x21\xfe" + b"\xff".ljust(256, b".") * 5000 + b"\x00"), CROPPED)


@pytest.mark.parametrize("dispose", range(8))
def test_a_huge_frame_is_refused_before_it_takes_memory(dispose: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageTooLarge):
        decode(gif(control(dispose=dispose), side=65_535), CROPPED)
    # In kB; the picture itself would take four times this.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20


@pytest.mark.parametrize("length", range(len(gif(COMMENT, control(transparent=1)))))
def test_a_truncated_gif_is_refused(length: int) -> None:
    whole = gif(COMMENT, control(transparent=1))
    try:
        pixels = decode(whole[:length], CROPPED).tobytes()
    except (CorruptImage, UnsupportedImage):
        return
    assert pixels == decode(whole, CROPPED).tobytes()


@pytest.mark.parametrize(
    "rest", [b"", b"\x3b", COMMENT, b"\x21", b"\x21\xf9", b"\x00" * 9, b"\x3b" + gif()[19:]]
)
def test_a_gif_without_a_frame_is_refused(rest: bytes) -> None:
    with pytest.raises(CorruptImage, match="before its picture begins"):
        from_first_frame(gif()[:19] + rest)


@pytest.mark.parametrize("offset", [(0, 0), (1, 3), (8, 8), (9, 9), (2, 0), (0, 8)])
@pytest.mark.parametrize("head", [b"", control(transparent=1), COMMENT + control()])
def test_what_the_frame_leaves_free_is_white(offset: tuple[int, int], head: bytes) -> None:
    file = bytearray(gif(head))
    file[6:10] = struct.pack("<HH", 10, 10)
    frame = 19 + len(head)
    file[frame + 1 : frame + 5] = struct.pack("<HH", *offset)
    image = decode(bytes(file), CROPPED)
    # The frame is black on one diagonal; Pillow extends a canvas that is too small for it.
    left, top = offset
    assert image.size == (max(10, left + 2), max(10, top + 2))
    black = np.argwhere(np.asarray(image).sum(axis=2) == 0)
    assert black.tolist() == [[top, left], [top + 1, left + 1]]
