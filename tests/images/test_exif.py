import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service.images.exif import orientation

TAG = 0x0112


def block(value: int, *, order: str = "<", tag: int = TAG, kind: int = 3, count: int = 1) -> bytes:
    head = b"II*\x00" if order == "<" else b"MM\x00*"
    return head + struct.pack(f"{order}IHHHIHHI", 8, 1, tag, kind, count, value, 0, 0)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_reads_both_byte_orders(order: str, value: int) -> None:
    assert orientation(block(value, order=order)) == value
    assert orientation(b"Exif\x00\x00" + block(value, order=order)) == value


@pytest.mark.parametrize("value", range(1, 9))
def test_reads_the_orientation_among_other_tags_of_pillow(value: int) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif[TAG] = value
    exif[0x0132] = "2024:01:01 00:00:00"
    assert orientation(exif.tobytes()) == value


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"Exif\x00\x00",
        b"II*\x00",
        b"II*\x00\xff\xff\xff\xff",
        block(6)[:-9],
        block(0),
        block(9),
        block(6, kind=4),
        block(6, count=0),
        block(6, count=2),
        block(6, tag=TAG + 1),
        b"XX" + block(6)[2:],
    ],
)
def test_a_broken_block_means_upright(broken: bytes) -> None:
    assert orientation(broken) == 1


@given(st.binary(max_size=200))
def test_never_raises(junk: bytes) -> None:
    assert orientation(b"II*\x00" + junk) in range(1, 9)
    assert orientation(junk) in range(1, 9)
