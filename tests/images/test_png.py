import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from service.errors import CorruptImage
from service.images.pixels import decode
from service.images.png import bare, is_whole
from tests.images.encoded import CROPPED, encode, exif, pixel, png, png_chunk

# Colour type → the bits that it may have.
BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@pytest.mark.parametrize(
    ("colour", "bits"), [(colour, bits) for colour, depths in BITS.items() for bits in depths]
)
@given(width=st.integers(1, 40), height=st.integers(1, 40))
def test_the_needed_length_of_a_plain_png_is_exact(colour: int, bits: int, width: int, height: int) -> None:
    length = height * (1 + -(-width * bits * CHANNELS[colour] // 8))
    assert is_whole(png(width, height, bytes(length), bits=bits, colour=colour))
    assert not is_whole(png(width, height, bytes(length - 1), bits=bits, colour=colour))


@pytest.mark.parametrize(
    ("width", "height", "rows"), [(1, 1, 1), (2, 1, 2), (1, 2, 2), (5, 5, 11), (8, 8, 15), (3, 20, 35)]
)
def test_the_needed_length_of_an_interlaced_png_is_exact(width: int, height: int, rows: int) -> None:
    """`rows` is the number of rows of all seven passes, counted by hand."""
    length = 3 * width * height + rows
    assert is_whole(png(width, height, bytes(length), interlaced=True))
    assert not is_whole(png(width, height, bytes(length - 1), interlaced=True))


@pytest.mark.parametrize(("interlaced", "side", "rows"), [(True, 4, 7), (True, 5, 11), (False, 5, 5)])
def test_no_byte_may_be_missing(interlaced: bool, side: int, rows: int) -> None:
    content = b"\x01" * (3 * side**2 + rows)
    assert decode(png(side, side, content, interlaced=interlaced), CROPPED).size == (side, side)
    for length in range(len(content)):
        with pytest.raises(CorruptImage):
            decode(png(side, side, content[:length], interlaced=interlaced), CROPPED)


def test_data_may_be_longer() -> None:
    assert is_whole(png(4, 4, bytes(4 * 13 + 7)))


def test_a_short_data_stream_is_refused_and_not_filled_with_black() -> None:
    rows = np.random.default_rng(0).integers(1, 256, (50, 301), np.uint8)
    rows[:, 0] = 0
    assert decode(png(100, 50, rows.tobytes()), CROPPED).size == (100, 50)
    for missing in (1, 2, 25, 49):
        with pytest.raises(CorruptImage, match="lacks rows"):
            decode(png(100, 50, rows[:-missing].tobytes()), CROPPED)


def test_a_picture_that_ends_in_black_is_accepted() -> None:
    black = Image.new("RGB", (50, 40))
    assert decode(encode(black, "PNG"), CROPPED).getbbox() is None


def test_only_chunks_that_the_picture_needs_are_kept() -> None:
    rows = bytes(4 * 13)
    useful = png_chunk(b"eXIf", exif(6))
    plain = png(4, 4, rows, before=useful)
    junk = (
        png_chunk(b"tEXt", b"transparency\x00x") + png_chunk(b"acTL", bytes(8)) + b"\x00\x00\x00\x01juNKxcrc!"
    )
    assert bare(png(4, 4, rows, before=junk + useful)) == plain
    assert bare(plain) == plain
    assert bare(plain[:-12]) == plain[:-12]


def test_picture_data_that_does_not_match_its_checksum_is_refused() -> None:
    # Otherwise a flipped bit that only makes the data longer than needed would go unnoticed.
    whole = png(4, 4, bytes(4 * 13 + 7))
    assert decode(whole, CROPPED).size == (4, 4)
    checksum = whole.index(b"IEND") - 8
    for position in range(checksum, checksum + 4):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        with pytest.raises(CorruptImage, match="damaged"):
            decode(bytes(damaged), CROPPED)


def test_refuses_endless_chunks() -> None:
    with pytest.raises(CorruptImage, match="chunks"):
        bare(png(4, 4, bytes(4 * 13), before=png_chunk(b"tEXt", b"") * 100_000))


@pytest.mark.parametrize("value", [0, 1, 255, 256, 0x1234, 0x8000, 0xFFFF])
def test_16_bits_are_scaled_and_not_clipped(value: int) -> None:
    grey = png(4, 1, b"\x00" + value.to_bytes(2, "big") * 4, bits=16, colour=0)
    colour = png(4, 1, b"\x00" + value.to_bytes(2, "big") * 12, bits=16, colour=2)
    assert pixel(grey) == pixel(colour) == (value >> 8,) * 3


@pytest.mark.parametrize(
    ("bits", "colour", "sample", "value"),
    [(2, 0, 1, 85), (4, 0, 8, 136), (8, 0, 7, 7), (16, 0, 0x0708, 7), (8, 2, 7, 7), (16, 2, 0x0708, 7)],
)
def test_a_transparent_colour_becomes_white(bits: int, colour: int, sample: int, value: int) -> None:
    channels = 3 if colour == 2 else 1
    samples = int(f"{sample:0{bits}b}" * 4 * channels, 2).to_bytes(4 * channels * bits // 8, "big")
    transparent = sample.to_bytes(2, "big") * channels
    assert pixel(png(4, 1, b"\x00" + samples, bits=bits, colour=colour)) == (value, value, value)
    chunk = png_chunk(b"tRNS", transparent)
    assert pixel(png(4, 1, b"\x00" + samples, bits=bits, colour=colour, before=chunk)) == (255, 255, 255)


@pytest.mark.parametrize(
    "chunk",
    [
        (b"zTXt", b"Comment\x00\x00"),
        (b"iTXt", b"XML:com.adobe.xmp\x00\x01\x00\x00\x00"),
        (b"iCCP", b"icc\x00\x00"),
    ],
)
def test_metadata_that_inflates_hugely_is_skipped(chunk: tuple[bytes, bytes]) -> None:
    kind, head = chunk
    endless = png_chunk(kind, head + zlib.compress(bytes(100_000_000), 1))
    assert pixel(png(4, 1, b"\x00" + b"\x07" * 12, before=endless)) == (7, 7, 7)


@pytest.mark.parametrize("name", ["exif", "transparency", "gamma", "icc_profile", "dpi"])
def test_a_text_that_is_named_like_other_metadata_is_harmless(name: str) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text(name, "a text")
    texts.add_itxt(name, "a text")
    assert pixel(encode(Image.new("RGB", (8, 8), "red"), "PNG", pnginfo=texts)) == (255, 0, 0)
