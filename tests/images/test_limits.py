"""Images that are too large to decode, and the memory that decoding takes."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from service.errors import ImageTooLarge
from service.images.pixels import MAX_SIDE, DecodeLimits, decode
from tests.images.encoded import CROPPED, encode, exif, png


def bomb(side: int) -> bytes:
    return png(side, side, b"")


def test_refuses_too_many_pixels_by_the_header_alone() -> None:
    for data in (bomb(30_000), encode(Image.new("1", (200, 100)), "PNG")):
        with pytest.raises(ImageTooLarge, match="the limit is 10000 pixels"):
            decode(data, CROPPED, DecodeLimits(max_pixels=10_000))


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "BMP", "GIF", "AVIF", "JPEG"])
def test_an_image_of_exactly_the_limit_is_accepted(format_: str) -> None:
    data = encode(Image.new("RGB", (100, 50)), format_)
    assert decode(data, CROPPED, DecodeLimits(max_pixels=5000)).size == (100, 50)
    with pytest.raises(ImageTooLarge, match="100 × 50 pixels"):
        decode(data, CROPPED, DecodeLimits(max_pixels=4999))


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "BMP", "GIF", "AVIF", "JPEG"])
def test_the_memory_of_a_decode_is_bounded(format_: str) -> None:
    data = encode(Image.new("RGB", (1000, 500)), format_)
    with pytest.raises(ImageTooLarge, match="MiB"):
        decode(data, CROPPED, DecodeLimits(max_decode_bytes=1_000_000))


def test_a_progressive_jpeg_costs_more_memory_than_a_plain_one() -> None:
    limits = DecodeLimits(max_decode_bytes=8_000_000)
    plain, progressive = (
        encode(Image.new("RGB", (1792, 1792)), "JPEG", progressive=progressive, subsampling="4:2:0")
        for progressive in (False, True)
    )
    assert decode(plain, CROPPED, limits).size == (448, 448)
    with pytest.raises(ImageTooLarge, match="MiB"):
        decode(progressive, CROPPED, limits)


def test_refuses_a_side_that_is_too_long() -> None:
    with pytest.raises(ImageTooLarge, match="a side"):
        decode(encode(Image.new("L", (MAX_SIDE + 1, 1)), "PNG"), CROPPED)


MEASURE = """
import sys
from pathlib import Path
from service.images.pixels import DecodeLimits, load_pixels
from tests.images.encoded import CROPPED

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

small, large = (Path(path).read_bytes() for path in sys.argv[1:])
load_pixels(small, CROPPED)
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
load_pixels(large, CROPPED, limits=DecodeLimits(max_decode_bytes=2**40))
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc to tell memory")
@pytest.mark.parametrize(
    ("mode", "format_", "options", "bytes_per_pixel"),
    [
        ("RGB", "PNG", {"compress_level": 1}, 8),
        ("RGBA", "PNG", {"compress_level": 1}, 12),
        ("LA", "PNG", {"compress_level": 1}, 12),
        ("P", "PNG", {"compress_level": 1}, 12),
        ("RGBA", "WEBP", {"method": 0}, 17),
        ("RGBA", "AVIF", {"speed": 10}, 17),
        ("RGB", "JPEG", {"progressive": True, "subsampling": "4:4:4"}, 8 / 16 + 6),
        ("CMYK", "JPEG", {}, 8 / 16),
    ],
)
def test_a_decode_takes_no_more_memory_than_estimated(
    tmp_path: Path, mode: str, format_: str, options: dict[str, int], bytes_per_pixel: float
) -> None:
    side = 2000
    image = Image.effect_noise((50, 50), 80).resize((side, side)).convert("RGB").convert(mode)
    if image.has_transparency_data:
        # A fully opaque alpha channel would not be kept.
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    small, large = tmp_path / "small", tmp_path / "large"
    for path, size in ((small, 64), (large, side)):
        path.write_bytes(encode(image.resize((size, size)), format_, exif=exif(6), **options))
    with pytest.raises(ImageTooLarge):
        decode(large.read_bytes(), CROPPED, DecodeLimits(max_decode_bytes=int(side**2 * bytes_per_pixel) - 1))
    measured = subprocess.run(  # noqa: S603
        [sys.executable, "-c", MEASURE, small, large], check=True, capture_output=True, text=True
    )
    # A few megabytes go to the decoders' own tables and the allocator's reserve.
    assert int(measured.stdout) <= side**2 * bytes_per_pixel + 6_000_000
