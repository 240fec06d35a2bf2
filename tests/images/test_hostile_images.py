"""Any bytes give pixels or an error with a message, never another exception or a warning."""

from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from service.bundle.manifest import Filter, Preprocessing, Resize
from service.errors import RequestError
from service.images.pixels import FORMATS, Crop, DecodeLimits, load_pixels
from tests.images.encoded import encode, exif

PREPROCESSING = Preprocessing(height=24, width=32, resize=Resize.SHORTER_SIDE, filter=Filter.BILINEAR)
# A flipped bit in a header can make a small picture a large one: refuse it, to keep the run short.
LIMITS = DecodeLimits(max_pixels=2_000_000)
KINDS = {
    "JPEG": ("RGB", "JPEG", {}),
    "progressive JPEG": ("RGB", "JPEG", {"progressive": True, "subsampling": "4:2:0"}),
    "restarting JPEG": ("RGB", "JPEG", {"restart_marker_blocks": 3}),
    "CMYK JPEG": ("CMYK", "JPEG", {}),
    "grey JPEG": ("L", "JPEG", {}),
    "PNG": ("RGB", "PNG", {}),
    "transparent PNG": ("RGBA", "PNG", {}),
    "palette PNG": ("P", "PNG", {"transparency": 1}),
    "BMP": ("RGB", "BMP", {}),
    "palette BMP": ("P", "BMP", {}),
    "GIF": ("P", "GIF", {}),
    "animated GIF": ("P", "GIF", {"save_all": True, "append_images": [Image.new("P", (30, 20), 7)]}),
    "WEBP": ("RGB", "WEBP", {}),
    "lossless WEBP": ("RGBA", "WEBP", {"lossless": True}),
    "animated WEBP": ("RGB", "WEBP", {"save_all": True, "append_images": [Image.new("RGB", (64, 48))]}),
    "AVIF": ("RGBA", "AVIF", {}),
}

fuzzed = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])


@cache
def undamaged(kind: str) -> bytes:
    mode, format_, options = KINDS[kind]
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    picture = Image.fromarray(noise).resize((64, 48), Image.Resampling.BICUBIC)
    tag = {"exif": exif(6)} if format_ in ("JPEG", "PNG", "WEBP", "AVIF") else {}
    return encode(picture.convert(mode), format_, **options, **tag)


def check_pixels_or_error(data: bytes) -> None:
    try:
        pixels = load_pixels(data, PREPROCESSING, Crop.BUNDLE, LIMITS)
    except RequestError as error:
        message = str(error)
        assert message
        assert "\n" not in message
        assert "object at 0x" not in message
    else:
        assert pixels.shape == (24, 32, 3)
        assert pixels.dtype == np.uint8


def test_every_format_is_fuzzed() -> None:
    assert {format_ for _, format_, _ in KINDS.values()} >= set(FORMATS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_undamaged_file_is_read(kind: str) -> None:
    assert load_pixels(undamaged(kind), PREPROCESSING).shape == (24, 32, 3)


@fuzzed
@given(
    st.sampled_from(
        [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF\x00\x00\x00\x00WEBP"]
    )
    | st.sampled_from([b"\x00\x00\x00\x1cftypavif", b"\xff\xd8\xff\xc0\x00\x11\x08"]),
    st.binary(max_size=400),
)
def test_random_bytes(start: bytes, rest: bytes) -> None:
    check_pixels_or_error(start + rest)


@pytest.mark.parametrize("kind", KINDS)
@fuzzed
@given(data=st.data())
def test_truncated_files(kind: str, data: st.DataObject) -> None:
    whole = undamaged(kind)
    check_pixels_or_error(whole[: data.draw(st.integers(0, len(whole) - 1), label="length")])


@pytest.mark.parametrize("kind", KINDS)
@fuzzed
@given(data=st.data())
def test_flipped_bits(kind: str, data: st.DataObject) -> None:
    changed = bytearray(undamaged(kind))
    # Half of them are in the first 200 bytes, which hold the structure.
    bits = st.integers(0, 8 * len(changed) - 1) | st.integers(0, 8 * 200)
    for bit in data.draw(st.lists(bits, min_size=1, max_size=8), label="bits"):
        changed[bit // 8] ^= 1 << bit % 8
    check_pixels_or_error(bytes(changed))


@pytest.mark.parametrize("kind", KINDS)
@fuzzed
@given(data=st.data())
def test_pieces_removed_and_inserted(kind: str, data: st.DataObject) -> None:
    whole = undamaged(kind)
    start = data.draw(st.integers(0, len(whole)), label="start")
    end = data.draw(st.integers(start, min(len(whole), start + 64)), label="end")
    check_pixels_or_error(whole[:start] + data.draw(st.binary(max_size=64), label="piece") + whole[end:])
