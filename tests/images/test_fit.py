"""The scale, the crop and the filter: from an image of any size to the model's pixels."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from service.bundle.manifest import Filter, Preprocessing, Resize
from service.images.pixels import MAX_SIDE, Crop, decode, fit, load_pixels
from tests.images.encoded import CROPPED, encode, exif

SQUASHED = Preprocessing(height=224, width=224, resize=Resize.SQUASH, filter=Filter.BICUBIC)


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


@pytest.mark.parametrize("model", [224, 240, 299, 331, 380])
def test_an_image_of_any_size_may_be_used_uncropped(model: int) -> None:
    whole = CROPPED.model_copy(update={"width": model, "height": model, "crop_fraction": 1.0})
    for side in (11, 29, 225, 496, 500, 768, 1000):
        assert fit(Image.new("RGB", (side, side + 1)), whole).shape == (model, model, 3)
