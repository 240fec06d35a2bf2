"""Photos as the network sees them."""

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from build.photos.data import PhotoSet
from service.bundle.manifest import Preprocessing
from service.images.pixels import Crop, load_pixels


def pixels_of(photos: PhotoSet, preprocessing: Preprocessing, crop: Crop = Crop.BUNDLE) -> NDArray[np.uint8]:
    """Return the photos of a set, preprocessed as in the service: uint8[n, height, width, 3]."""
    shown = tqdm(photos.photos, desc="decode", unit="photo", disable=not photos.photos)
    pixels = np.empty((len(photos.photos), preprocessing.height, preprocessing.width, 3), np.uint8)
    for row, photo in zip(pixels, shown, strict=True):
        row[:] = load_pixels(photo.path.read_bytes(), preprocessing, crop)
    return pixels
