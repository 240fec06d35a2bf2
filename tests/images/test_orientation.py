from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from service.images.pixels import Crop, fit, load_pixels
from tests.images.encoded import CROPPED, LOSSLESS, encode, exif

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
