"""Random views of a photo to train on."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from service.inference.image import decode
from service.manifest import Preprocessing

SMALLEST_AREA = 0.5
WIDEST_ASPECT = 4 / 3
CONTRAST = 0.15


def training_view(
    data: bytes, preprocessing: Preprocessing, random: np.random.Generator
) -> NDArray[np.uint8]:
    """A random crop of at least half the area, mirrored half the time, with a light change of contrast.

    The decoder and the resize filter are those of the service. Returns uint8[height, width, 3].
    """
    image = decode(data, preprocessing)
    view = image.resize(
        (preprocessing.width, preprocessing.height),
        Image.Resampling[preprocessing.filter.upper()],
        box=_random_box(image.width, image.height, random),
    )
    if random.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    view = ImageEnhance.Contrast(view).enhance(random.uniform(1 - CONTRAST, 1 + CONTRAST))
    return np.asarray(view)


def _random_box(width: int, height: int, random: np.random.Generator) -> tuple[float, float, float, float]:
    area = width * height * random.uniform(SMALLEST_AREA, 1)
    aspect = math.exp(random.uniform(-math.log(WIDEST_ASPECT), math.log(WIDEST_ASPECT)))
    crop_width = min(math.sqrt(area * aspect), width)
    crop_height = min(math.sqrt(area / aspect), height)
    left = random.uniform(0, width - crop_width)
    top = random.uniform(0, height - crop_height)
    return left, top, left + crop_width, top + crop_height
