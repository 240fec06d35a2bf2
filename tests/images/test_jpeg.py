"""The JPEG decoder: Pillow's pixels, and strictness that Pillow does not have."""

import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from service.errors import CorruptImage, UnsupportedImage
from service.images import jpeg
from tests.images.encoded import encode

SIZES = [(640, 427), (641, 431), (16, 16), (17, 9), (1, 1), (1, 50)]
EOI = b"\xff\xd9"


def by_pillow(data: bytes, denominator: int) -> Image.Image:
    image = Image.open(BytesIO(data))
    image.draft(None, (image.width // denominator, image.height // denominator))
    return image.convert("RGB")


def decode(data: bytes, denominator: int = 1) -> np.ndarray:
    return np.asarray(jpeg.decode(data, jpeg.read_header(data), denominator))


@pytest.fixture(scope="module")
def photo(photos: dict[str, Path]) -> bytes:
    return photos["temple"].read_bytes()


def segment_start(data: bytes, marker: int) -> int:
    return data.index(bytes((0xFF, marker)))


@pytest.mark.parametrize("denominator", [1, 2, 4, 8])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("size", SIZES[:2])
def test_pixels_equal_pillows(
    temple: Image.Image, size: tuple[int, int], subsampling: str, progressive: bool, denominator: int
) -> None:
    data = encode(temple.resize(size), "JPEG", subsampling=subsampling, progressive=progressive)
    expected = np.asarray(by_pillow(data, denominator))
    assert expected.shape == (-(-size[1] // denominator), -(-size[0] // denominator), 3)
    np.testing.assert_array_equal(decode(data, denominator), expected)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("denominator", [1, 2, 4, 8])
def test_pixels_in_grey_and_cmyk_equal_pillows(temple: Image.Image, mode: str, denominator: int) -> None:
    data = encode(temple.convert(mode), "JPEG")
    np.testing.assert_array_equal(decode(data, denominator), np.asarray(by_pillow(data, denominator)))


@pytest.mark.parametrize("size", SIZES)
def test_reads_the_header(temple: Image.Image, size: tuple[int, int]) -> None:
    data = encode(
        temple.resize(size), "JPEG", subsampling="4:2:0", progressive=True, exif=b"Exif\x00\x00rest"
    )
    chroma = -(-size[0] // 2) * -(-size[1] // 2)
    assert jpeg.read_header(data) == jpeg.Header(
        *size,
        components=3,
        samples=size[0] * size[1] + 2 * chroma,
        buffered=True,
        exif=b"Exif\x00\x00rest",
    )


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("tenth", range(1, 10))
@pytest.mark.parametrize("ending", [b"", EOI, b"\x00" * 500 + EOI], ids=["cut", "ended", "padded"])
def test_a_truncated_file_is_refused_and_not_half_grey(
    temple: Image.Image, mode: str, progressive: bool, tenth: int, ending: bytes
) -> None:
    data = encode(temple.convert(mode), "JPEG", progressive=progressive)
    cut = data[: len(data) * tenth // 10] + ending
    with pytest.raises(CorruptImage):
        decode(cut)


def test_pillow_alone_decodes_a_truncated_file_half_grey(photo: bytes) -> None:
    """This is why another decoder is used; if this fails, Pillow has become strict too."""
    cut = np.asarray(Image.open(BytesIO(photo[: len(photo) // 2] + EOI)))
    assert (cut[-1] == cut[-1, 0]).all()


def test_accepts_bytes_after_the_end(photo: bytes) -> None:
    np.testing.assert_array_equal(decode(photo + b"a motion photo's film"), decode(photo))


def test_accepts_junk_between_segments(photo: bytes) -> None:
    at = segment_start(photo, 0xDB)
    np.testing.assert_array_equal(decode(photo[:at] + b"\x00junk\xff\x00" + photo[at:]), decode(photo))


def test_accepts_padding_before_the_end(photo: bytes) -> None:
    np.testing.assert_array_equal(decode(photo.removesuffix(EOI) + b"\x00" * 8 + EOI), decode(photo))


@pytest.fixture
def strict_calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each call of the decoder, whether it was strict."""
    calls: list[bool] = []
    decode_jpeg = simplejpeg.decode_jpeg

    def recorded(*args: Any, strict: bool, **options: Any) -> np.ndarray:
        calls.append(strict)
        return decode_jpeg(*args, strict=strict, **options)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", recorded)
    return calls


def test_padding_before_the_end_is_decoded_twice_at_most(photo: bytes, strict_calls: list[bool]) -> None:
    decode(photo.removesuffix(EOI) + b"\xaa\x55" * 200 + EOI)
    assert strict_calls == [True, False]


def test_damage_that_can_not_be_repaired_is_tried_only_once(strict_calls: list[bool]) -> None:
    whole = flat(16, [(1,), (2,), (3,)])
    last = whole.rindex(b"\xff\xda")
    with pytest.raises(CorruptImage):
        decode(whole[:last] + b"\xaa" * 9 + whole[last:])
    assert strict_calls == [True]


def test_accepts_an_unknown_revision_of_jfif(photo: bytes) -> None:
    at = photo.index(b"JFIF\x00") + 5
    np.testing.assert_array_equal(decode(photo[:at] + b"\x09" + photo[at + 1 :]), decode(photo))


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_accepts_an_unknown_adobe_transform(temple: Image.Image, mode: str) -> None:
    adobe = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
    data = encode(temple.convert(mode), "JPEG")
    if mode == "CMYK":
        at = data.index(b"Adobe") + 11
        known, unknown = (data[:at] + transform + data[at + 1 :] for transform in (b"\x02", b"\x63"))
    else:
        known, unknown = (data[:2] + adobe + transform + data[2:] for transform in (b"\x01", b"\x63"))
    np.testing.assert_array_equal(decode(unknown), decode(known))


def test_accepted_junk_hides_no_damage_after_it(photo: bytes) -> None:
    at = segment_start(photo, 0xDB)
    harmless = photo[:at] + b"junk" + photo[at:]
    with pytest.raises(CorruptImage, match="truncated"):
        decode(harmless[: len(harmless) // 2] + EOI)


@pytest.mark.parametrize(
    ("offset", "value", "error"),
    [
        (1, 0xC3, UnsupportedImage),  # lossless
        (4, 12, UnsupportedImage),  # bits
        (9, 2, UnsupportedImage),  # components
        (11, 0x42, UnsupportedImage),  # subsampling of 4:1:0
        (5, 0xFF, CorruptImage),  # a height that the scan does not have
    ],
)
def test_refuses_other_kinds(photo: bytes, offset: int, value: int, error: type[Exception]) -> None:
    changed = bytearray(photo)
    changed[segment_start(photo, 0xC0) + offset] = value
    with pytest.raises(error):
        decode(bytes(changed))


def test_refuses_a_height_that_follows_the_scan(photo: bytes) -> None:
    at = segment_start(photo, 0xC0) + 5
    with pytest.raises(UnsupportedImage):
        jpeg.read_header(photo[:at] + b"\x00\x00" + photo[at + 2 :])


def test_refuses_a_header_of_endless_segments() -> None:
    with pytest.raises(CorruptImage, match="segments"):
        jpeg.read_header(b"\xff\xd8" + b"\xff\xfe\x00\x02" * 20_000)


@pytest.mark.parametrize(
    "data", [b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\x00\x00", b"\xff\xd8" + b"\xff" * 99]
)
def test_refuses_a_file_without_a_picture(data: bytes) -> None:
    with pytest.raises(CorruptImage):
        jpeg.read_header(data)


def flat(side: int, scans: Sequence[Sequence[int]]) -> bytes:
    """A grey YCbCr picture in baseline scans, each of the given components (1, 2, 3)."""
    component = [bytes((number, 0x11, 0)) for number in (1, 2, 3)]
    # Both tables have one code, the bit 0: no change of the first coefficient, then the block's end.
    code = bytes((1, *[0] * 15, 0))
    parts = [
        b"\xff\xd8",
        segment(0xDB, b"\x00" + b"\x01" * 64),
        segment(0xC0, struct.pack(">BHHB", 8, side, side, 3) + b"".join(component)),
        segment(0xC4, b"\x00" + code),
        segment(0xC4, b"\x10" + code),
    ]
    blocks = (-(-side // 8)) ** 2
    for components in scans:
        selected = b"".join(bytes((number, 0)) for number in components)
        parts += [segment(0xDA, bytes((len(components),)) + selected + b"\x00\x3f\x00")]
        parts += [bytes(-(-2 * blocks * len(components) // 8))]
    return b"".join([*parts, EOI])


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def test_separate_scans_are_buffered_like_a_progressive_file() -> None:
    together, apart = flat(64, [(1, 2, 3)]), flat(64, [(1,), (2,), (3,)])
    assert not jpeg.read_header(together).buffered
    assert jpeg.read_header(apart).buffered
    assert decode(together).tolist() == decode(apart).tolist()


@pytest.mark.parametrize("repeated", [1, 33])
def test_many_scans_are_accepted(repeated: int) -> None:
    assert (decode(flat(16, [(1,), (2,), (3,)] * repeated)) == 128).all()


def test_too_many_scans_are_refused() -> None:
    with pytest.raises(CorruptImage, match="more than 100 scans"):
        decode(flat(16, [(1,), (2,), (3,)] * 34))


def test_bytes_after_the_picture_do_not_count_as_scans() -> None:
    picture = flat(16, [(1,), (2,), (3,)])
    assert (decode(picture + b"\xff\xda" * 200) == 128).all()


def test_an_end_marker_in_a_comment_hides_no_scans() -> None:
    whole = flat(16, [(1,), (2,), (3,)] * 34)
    second = whole.index(b"\xff\xda", whole.index(b"\xff\xda") + 1)
    with pytest.raises(CorruptImage, match="more than 100 scans"):
        decode(whole[:second] + segment(0xFE, b"\xff\xd9") + whole[second:])


@pytest.mark.parametrize("marker", [0xC9, 0xCA])
def test_an_arithmetic_coded_file_is_refused(photo: bytes, marker: int) -> None:
    at = segment_start(photo, 0xC0)
    with pytest.raises(UnsupportedImage, match="arithmetic"):
        jpeg.read_header(photo[:at] + bytes((0xFF, marker)) + photo[at + 2 :])


def test_scans_in_a_preview_do_not_count(temple: Image.Image) -> None:
    preview = b"Exif\x00\x00" + flat(8, [(1,)] * 101)
    assert decode(encode(temple.resize((16, 16)), "JPEG", exif=preview)).shape == (16, 16, 3)


def test_fill_bytes_before_a_marker_are_skipped(photo: bytes) -> None:
    filled = photo[:2] + b"\xff" * 1000 + photo[2:]
    assert jpeg.read_header(filled) == jpeg.read_header(photo)
    assert (decode(filled) == decode(photo)).all()


def test_unusual_subsampling_is_named_as_the_reason() -> None:
    inks = encode(Image.new("CMYK", (32, 32)), "JPEG", subsampling="4:2:0")
    with pytest.raises(UnsupportedImage, match="subsampling"):
        jpeg.read_header(inks)
