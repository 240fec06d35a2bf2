import struct
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service.errors import CorruptImage, ImageTooLarge, UnsupportedImage
from service.images.avif import coded_pixels, without_exif
from service.images.pixels import DecodeLimits, decode
from tests.images.encoded import CROPPED, encode, exif

STILL = encode(Image.new("RGB", (64, 48), "red"), "AVIF")
FILE_TYPE = STILL[: int.from_bytes(STILL[:4], "big")]


def with_header_size(data: bytes, width: int, height: int) -> bytes:
    """The AVIF with another size in its header and the same coded picture."""
    start = data.index(b"ispe") + 8
    original = data[start - 8 : start + 8]
    return data.replace(original, original[:8] + struct.pack(">II", width, height))


@pytest.mark.parametrize("size", [(1, 1), (64, 48), (1025, 3)])
@pytest.mark.parametrize(("mode", "pictures"), [("RGB", 1), ("L", 1), ("RGBA", 2)])
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_coded_pixels_are_counted(size: tuple[int, int], mode: str, pictures: int, subsampling: str) -> None:
    data = encode(Image.new(mode, size), "AVIF", speed=10, subsampling=subsampling)
    assert coded_pixels(data) == pictures * size[0] * size[1]


def test_the_header_does_not_change_the_count() -> None:
    lie = with_header_size(STILL, 16, 16)
    assert Image.open(BytesIO(lie)).size == (16, 16)
    assert coded_pixels(lie) == 64 * 48


def test_coded_pixels_are_limited_whatever_the_header_says() -> None:
    large = encode(Image.new("RGB", (1000, 1000)), "AVIF", speed=10)
    limits = DecodeLimits(max_decode_bytes=5_000_000)
    assert decode(with_header_size(STILL, 16, 16), CROPPED, limits).size == (16, 16)
    with pytest.raises(ImageTooLarge, match="MiB"):
        decode(with_header_size(large, 16, 16), CROPPED, limits)


@pytest.mark.parametrize("brand", [b"avis", b"avif"])
def test_a_sequence_is_refused(brand: bytes) -> None:
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    assert data[8:12] == b"avis"
    with pytest.raises(UnsupportedImage, match="still"):
        decode(data[:8] + brand + data[12:], CROPPED)


@pytest.mark.parametrize("kind", [b"free", b"meta"])
def test_too_many_boxes_are_refused(kind: bytes) -> None:
    boxes = (struct.pack(">I4s", 12, kind) + bytes(4)) * 10_001
    with pytest.raises(CorruptImage, match="pieces"):
        coded_pixels(STILL + boxes)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


@pytest.mark.parametrize(
    "table",
    [box(b"iloc", bytes(33_000)), box(b"iprp", box(b"ipma", bytes(33_000))), box(b"iref", bytes(33_000))],
)
def test_too_many_items_are_refused(table: bytes) -> None:
    with pytest.raises(CorruptImage, match="more items"):
        coded_pixels(FILE_TYPE + box(b"meta", bytes(4) + table))


def test_too_many_properties_are_refused() -> None:
    properties = box(b"iprp", box(b"ipco", box(b"free", b"") * 10_001))
    with pytest.raises(CorruptImage, match="pieces"):
        coded_pixels(FILE_TYPE + box(b"meta", bytes(4) + properties))


def test_items_described_twice_are_refused() -> None:
    # The number of boxes is limited in each of them.
    boxes = box(b"meta", bytes(4) + box(b"free", b"") * 9_000)
    for checked in (coded_pixels, without_exif):
        with pytest.raises(CorruptImage, match="more than once"):
            checked(STILL + boxes + box(b"free", b"Exif"))


def with_exif(block: bytes) -> bytes:
    """An AVIF with these bytes as its EXIF, whatever they are."""
    sound = b"MM\x00*\x00\x00\x00\x08\x00\x00".ljust(len(block), b"U")
    data = encode(Image.new("RGB", (64, 48), "red"), "AVIF", exif=sound)
    assert data.count(sound) == 1
    return data.replace(sound, block)


@pytest.mark.parametrize(
    "block",
    [
        b"XX*\x00\x08\x00\x00\x00".ljust(20, b"\x00"),
        b"II+\x00\x08\x00\x00\x00\x10".ljust(20, b"\x00"),
        bytes(20),
        bytes(100_000),
    ],
)
def test_broken_exif_does_not_matter(block: bytes) -> None:
    assert decode(with_exif(block), CROPPED).tobytes() == decode(STILL, CROPPED).tobytes()


def test_too_many_units_are_refused() -> None:
    units = b"\x12\x00" * 10_001  # Each has two bytes: a kind and a length of 0.
    with pytest.raises(CorruptImage, match="pieces"):
        coded_pixels(with_picture_at(STILL, len(STILL), len(units)) + units)


def with_picture_at(data: bytes, start: int, length: int) -> bytes:
    """The AVIF with the data of its picture at another place."""
    place = data.index(struct.pack(">I", data.index(b"mdat") + 4), data.index(b"iloc"))
    return data[:place] + struct.pack(">II", start, length) + data[place + 8 :]


@given(st.data())
def test_damage_raises_only_image_errors(data: st.DataObject) -> None:
    changed = bytearray(STILL)
    for bit in data.draw(st.lists(st.integers(0, 8 * len(changed) - 1), min_size=1, max_size=8)):
        changed[bit // 8] ^= 1 << bit % 8
    end = data.draw(st.integers(0, len(changed)))
    with suppress(CorruptImage, UnsupportedImage):
        assert len(without_exif(bytes(changed[:end]))) == end
        assert coded_pixels(bytes(changed[:end])) >= 0


def test_exif_does_not_turn_the_picture() -> None:
    block = exif(6).removeprefix(b"Exif\x00\x00")
    assert decode(with_exif(block), CROPPED).size == (64, 48)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_properties_turn_and_mirror_the_picture(orientation: int) -> None:
    picture = Image.new("RGB", (64, 48), "white")
    picture.paste("blue", (0, 0, 32, 24))
    # Pillow writes the orientation as EXIF into a PNG, but as properties into an AVIF.
    expected = decode(encode(picture, "PNG", exif=exif(orientation)), CROPPED)
    shown = decode(encode(picture, "AVIF", exif=exif(orientation), subsampling="4:4:4"), CROPPED)
    assert shown.size == expected.size
    assert np.abs(np.asarray(shown).astype(int) - np.asarray(expected)).mean() < 3


def test_a_track_that_would_be_shown_instead_of_the_picture_is_refused() -> None:
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("blue", "green")]
    sequence = encode(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    picture = STILL[STILL.index(b"mdat") + 4 :]
    both = with_picture_at(sequence, len(sequence), len(picture)) + picture
    still = both[:8] + b"avif" + both[12:]
    assert decode(still, CROPPED).tobytes() == decode(STILL, CROPPED).tobytes()
    for brand in (b"mif1", b"msf1"):
        with pytest.raises(UnsupportedImage, match="sequence"):
            decode(both[:8] + brand + both[12:], CROPPED)
