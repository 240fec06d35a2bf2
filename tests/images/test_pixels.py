"""The ingest contract, on real photos and on pictures whose pixels are known."""

import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from service.bundle.manifest import Filter, Preprocessing, Resize
from service.errors import CorruptImage, ImageTooLarge, UnsupportedImage
from service.images.pixels import FORMATS, MAX_SIDE, Crop, DecodeLimits, decode, fit, load_pixels
from tests.images.encoded import CROPPED, encode, exif, png, png_chunk

SQUASHED = Preprocessing(height=224, width=224, resize=Resize.SQUASH, filter=Filter.BICUBIC)
LOSSLESS = {"PNG": {}, "BMP": {}, "WEBP": {"lossless": True, "exact": True}}


@pytest.fixture(scope="module")
def temple(photos: dict[str, Path]) -> Image.Image:
    return Image.open(photos["temple"]).convert("RGB")


def pixel(data: bytes) -> tuple[int, ...]:
    colour = decode(data, CROPPED).getpixel((0, 0))
    assert isinstance(colour, tuple)
    return colour


def test_reads_every_format_by_content(temple: Image.Image) -> None:
    expected = fit(temple, CROPPED).astype(int)
    for format_ in FORMATS:
        pixels = load_pixels(encode(temple, format_), CROPPED)
        assert pixels.shape == (224, 224, 3)
        assert pixels.dtype == np.uint8
        # GIF's 256 colours and lossy compression change pixels only a little.
        assert np.abs(pixels - expected).mean() < 4, format_


@pytest.mark.parametrize("format_", LOSSLESS)
def test_lossless_formats_keep_every_pixel(temple: Image.Image, format_: str) -> None:
    data = encode(temple, format_, **LOSSLESS[format_])
    np.testing.assert_array_equal(np.asarray(decode(data, CROPPED)), np.asarray(temple))


@pytest.mark.parametrize("format_", ["TIFF", "PPM", "ICO", "JPEG2000", "TGA", "PDF"])
def test_refuses_other_formats(temple: Image.Image, format_: str) -> None:
    with pytest.raises(UnsupportedImage, match="JPEG, PNG"):
        decode(encode(temple.resize((32, 32)), format_), CROPPED)


@pytest.mark.parametrize("data", [b"", b"\xff", b"GIF", b"<svg/>", bytes(1000)])
def test_refuses_bytes_that_are_no_image(data: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        decode(data, CROPPED)


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "BMP", "GIF", "AVIF", "JPEG"])
@pytest.mark.parametrize("tenth", range(1, 10))
def test_refuses_truncated_files(temple: Image.Image, format_: str, tenth: int) -> None:
    data = encode(temple, format_)
    with pytest.raises(CorruptImage):
        decode(data[: len(data) * tenth // 10], CROPPED)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG"])
def test_reads_the_first_frame(format_: str) -> None:
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    red, green, blue = pixel(encode(frames[0], format_, save_all=True, append_images=frames[1:]))
    assert red > 230
    assert green < 30
    assert blue < 30


def black_and_white(mode: str) -> Image.Image:
    """Black left, white right: colours that each of the modes can hold."""
    picture = Image.new("L", (64, 48))
    picture.paste(255, (32, 0, 64, 48))
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    return picture.convert("RGB").convert(mode)


@pytest.mark.parametrize(
    ("mode", "format_"),
    [
        *((mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        *((mode, "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")),
        *((mode, "GIF") for mode in ("1", "L", "P")),
        *((mode, "JPEG") for mode in ("L", "RGB", "CMYK")),
    ],
)
def test_every_mode_becomes_rgb(mode: str, format_: str) -> None:
    image = decode(encode(black_and_white(mode), format_), CROPPED)
    assert image.mode == "RGB"
    assert image.getpixel((4, 4)) == (0, 0, 0)
    assert image.getpixel((60, 40)) == (255, 255, 255)


@pytest.mark.parametrize("value", [0, 1, 255, 256, 0x1234, 0x8000, 0xFFFF])
def test_16_bits_are_scaled_and_not_clipped(value: int) -> None:
    grey = png(4, 1, b"\x00" + value.to_bytes(2, "big") * 4, bits=16, colour=0)
    colour = png(4, 1, b"\x00" + value.to_bytes(2, "big") * 12, bits=16, colour=2)
    assert pixel(grey) == pixel(colour) == (value >> 8,) * 3


@pytest.mark.parametrize("format_", ["PNG", "WEBP"])
def test_transparency_is_blended_with_white(format_: str) -> None:
    image = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    image.paste((255, 0, 0, 128), (8, 0, 32, 32))
    image.paste((255, 0, 0, 255), (16, 0, 32, 32))
    decoded = decode(encode(image, format_, **LOSSLESS[format_]), CROPPED)
    assert decoded.getpixel((2, 2)) == (255, 255, 255)
    assert decoded.getpixel((10, 10)) == (255, 127, 127)
    assert decoded.getpixel((30, 30)) == (255, 0, 0)


def test_a_transparent_palette_entry_becomes_white() -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    assert pixel(encode(image, "PNG")) == (255, 0, 0)
    assert pixel(encode(image, "PNG", transparency=1)) == (255, 255, 255)
    assert pixel(encode(image, "GIF", transparency=1)) == (255, 255, 255)


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


# How a picture is stored for each orientation, so that applying it gives the picture again.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def stored(image: Image.Image, orientation: int) -> Image.Image:
    transpose = STORED[orientation]
    return image if transpose is None else image.transpose(transpose)


@pytest.mark.parametrize("format_", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("crop", Crop)
def test_all_orientations_give_the_same_pixels(
    temple: Image.Image, format_: str, orientation: int, crop: Crop
) -> None:
    data = encode(stored(temple, orientation), format_, exif=exif(orientation), **LOSSLESS[format_])
    np.testing.assert_array_equal(load_pixels(data, CROPPED, crop), fit(temple, CROPPED, crop))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_of_a_jpeg_give_nearly_the_same_pixels(
    temple: Image.Image, orientation: int
) -> None:
    large = temple.resize((1000, 667))
    data = encode(stored(large, orientation), "JPEG", quality=95, exif=exif(orientation))
    assert ImageOps.exif_transpose(Image.open(BytesIO(data))).size == large.size
    difference = np.abs(load_pixels(data, CROPPED).astype(int) - fit(large, CROPPED))
    assert difference.mean() < 3


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize(
    "broken", [b"Exif\x00\x00", b"Exif\x00\x00II*\x00\xff\xff\xff\x7f", b"Exif\x00\x00junk"]
)
def test_a_broken_exif_block_is_ignored(temple: Image.Image, format_: str, broken: bytes) -> None:
    np.testing.assert_array_equal(
        load_pixels(encode(temple, format_, exif=broken), CROPPED),
        load_pixels(encode(temple, format_), CROPPED),
    )


@pytest.mark.parametrize(
    ("size", "scaled"),
    [
        ((3584, 3584), (448, 448)),
        ((3583, 3583), (448, 448)),
        ((3576, 3576), (894, 894)),
        ((1792, 3584), (448, 896)),
        ((896, 4000), (448, 2000)),
        ((894, 4000), (894, 4000)),
        ((448, 448), (448, 448)),
    ],
)
def test_a_jpeg_is_scaled_to_at_least_twice_the_models_size(
    size: tuple[int, int], scaled: tuple[int, int]
) -> None:
    data = encode(Image.new("L", size), "JPEG")
    assert decode(data, CROPPED).size == scaled
    assert decode(data, CROPPED.model_copy(update={"jpeg_dct_scaling": False})).size == size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_jpeg_is_scaled_by_its_size_after_rotation(orientation: int) -> None:
    wide = CROPPED.model_copy(update={"width": 448})
    data = encode(Image.new("L", (896, 1792)), "JPEG", exif=exif(orientation))
    # Halved if it is turned by 90 degrees; otherwise it is not wide enough for that.
    assert decode(data, wide).size == ((896, 448) if orientation >= 5 else (896, 1792))


@pytest.mark.parametrize("crop", Crop)
def test_the_scaled_decode_gives_nearly_the_pixels_of_the_full_one(temple: Image.Image, crop: Crop) -> None:
    data = encode(temple.resize((2560, 1708)), "JPEG", quality=95)
    full = load_pixels(data, CROPPED.model_copy(update={"jpeg_dct_scaling": False}), crop)
    assert np.abs(load_pixels(data, CROPPED, crop).astype(int) - full).mean() < 1.5


def test_the_crop_is_that_of_resizing_and_then_cropping(photos: dict[str, Path]) -> None:
    """They are equal if no side or margin has to be rounded to whole pixels."""
    coffee = Image.open(photos["coffee"]).convert("RGB")
    assert coffee.size == (600, 400)
    resized = coffee.resize((384, 256), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(fit(coffee, CROPPED), np.asarray(resized.crop((80, 16, 304, 240))))


def test_the_crop_has_the_models_shape(temple: Image.Image) -> None:
    wide = CROPPED.model_copy(update={"width": 320, "height": 160, "crop_fraction": 1.0})
    expected = temple.resize((320, 160), Image.Resampling.BICUBIC, (0, 53.5, 640, 373.5))
    np.testing.assert_array_equal(fit(temple, wide), np.asarray(expected))


def test_no_crop_is_the_whole_image_squashed(temple: Image.Image) -> None:
    whole = np.asarray(temple.resize((224, 224), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(fit(temple, CROPPED, Crop.NONE), whole)
    np.testing.assert_array_equal(fit(temple, SQUASHED), whole)
    assert (fit(temple, CROPPED) != whole).any()


@pytest.mark.parametrize("filter_", Filter)
def test_the_filter_is_the_bundles(temple: Image.Image, filter_: Filter) -> None:
    expected = temple.resize((224, 224), Image.Resampling[filter_.name])
    preprocessing = SQUASHED.model_copy(update={"filter": filter_})
    np.testing.assert_array_equal(fit(temple, preprocessing), np.asarray(expected))


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    fraction=st.floats(0.01, 1),
    crop=st.sampled_from(Crop),
)
@example(width=1, height=20_000, fraction=0.875, crop=Crop.BUNDLE)
@example(width=1, height=20_000, fraction=0.875, crop=Crop.NONE)
@example(width=MAX_SIDE, height=1, fraction=0.875, crop=Crop.NONE)
def test_any_size_fits(width: int, height: int, fraction: float, crop: Crop) -> None:
    preprocessing = CROPPED.model_copy(update={"crop_fraction": fraction, "width": 48, "height": 32})
    data = encode(Image.new("RGB", (width, height), "orange"), "PNG")
    assert (load_pixels(data, preprocessing, crop) == (255, 165, 0)).all()


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


@pytest.mark.parametrize("model", [224, 240, 299, 331, 380])
def test_an_image_of_any_size_may_be_used_uncropped(model: int) -> None:
    whole = CROPPED.model_copy(update={"width": model, "height": model, "crop_fraction": 1.0})
    for side in (11, 29, 225, 496, 500, 768, 1000):
        assert fit(Image.new("RGB", (side, side + 1)), whole).shape == (model, model, 3)


@pytest.mark.parametrize("compression", [1, 2])
def test_a_run_length_encoded_bmp_is_refused(compression: int) -> None:
    data = bytearray(encode(Image.new("P", (8, 8)), "BMP"))
    assert decode(bytes(data), CROPPED).size == (8, 8)
    data[30] = compression
    with pytest.raises(UnsupportedImage, match="run-length"):
        decode(bytes(data), CROPPED)
