"""Random views of a photo for training, made by the service's decoder and resize filter."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from service.bundle.manifest import Preprocessing
from service.images.pixels import decode

_WIDEST_ASPECT = 4 / 3


@dataclass(frozen=True)
class Augmentation:
    """How much a view may differ from the photo.

    `smallest_area`: the smallest share of the area that a crop keeps; `contrast`, `brightness`, `colour`: by
    how much each may change, as a share. Half of the views are mirrored.
    """

    smallest_area: float
    contrast: float
    brightness: float = 0.0
    colour: float = 0.0


MILD = Augmentation(smallest_area=0.5, contrast=0.15)
"""For learning from a teacher, which sees the same view."""
STRONG = Augmentation(smallest_area=0.3, contrast=0.3, brightness=0.3, colour=0.3)
"""For learning from labels, which a network overfits if there are few photos."""

_CHANGES: tuple[tuple[str, Callable[[Image.Image], ImageEnhance._Enhance]], ...] = (
    ("brightness", ImageEnhance.Brightness),
    ("colour", ImageEnhance.Color),
    ("contrast", ImageEnhance.Contrast),
)


def training_view(
    data: bytes, preprocessing: Preprocessing, augmentation: Augmentation, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a random view of the image in `data`: uint8[height, width, 3]."""
    image = decode(data, preprocessing)
    view = image.resize(
        (preprocessing.width, preprocessing.height),
        Image.Resampling[preprocessing.filter.upper()],
        box=_random_box(image.width, image.height, augmentation.smallest_area, random),
    )
    if random.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for name, change in _CHANGES:
        most = getattr(augmentation, name)
        if most:
            view = change(view).enhance(random.uniform(1 - most, 1 + most))
    return np.asarray(view)


def _random_box(
    width: int, height: int, smallest_area: float, random: np.random.Generator
) -> tuple[float, float, float, float]:
    area = width * height * random.uniform(smallest_area, 1)
    aspect = math.exp(random.uniform(-math.log(_WIDEST_ASPECT), math.log(_WIDEST_ASPECT)))
    crop_width, crop_height = math.sqrt(area * aspect), math.sqrt(area / aspect)
    # If one side is longer than the image's, shorten it and give its share of the area to the other.
    if crop_width > width:
        crop_width, crop_height = width, min(area / width, height)
    elif crop_height > height:
        crop_width, crop_height = min(area / height, width), height
    left = random.uniform(0, width - crop_width)
    top = random.uniform(0, height - crop_height)
    return left, top, left + crop_width, top + crop_height
