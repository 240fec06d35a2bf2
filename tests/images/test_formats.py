"""Every format and mode, on real photos and on pictures whose pixels are known."""

import numpy as np
import pytest
from PIL import Image

from service.errors import CorruptImage, UnsupportedImage
from service.images.pixels import FORMATS, decode, fit, load_pixels
from tests.images.encoded import CROPPED, LOSSLESS, encode, pixel


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
