"""Folders of real photos: crops of photos from installed packages."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def write_crops(folder: Path, photos: Mapping[str, Path], seed: int, count: int) -> None:
    """Write one folder per photo, with its name and `count` random crops."""
    random = np.random.default_rng(seed)
    for label, path in photos.items():
        with Image.open(path) as photo:
            whole = photo.convert("RGB")
        (folder / label).mkdir(parents=True)
        for index in range(count):
            side = int(random.integers(150, 250))
            left = int(random.integers(0, whole.width - side))
            top = int(random.integers(0, whole.height - side))
            crop = whole.crop((left, top, left + side, top + side))
            crop.save(folder / label / f"{index}.jpg", quality=92)
