"""Images of noise, as PNG files."""

from io import BytesIO

import numpy as np
from PIL import Image


def noise_images(count: int, side: int) -> list[bytes]:
    """Return different images of noise, each around some colour."""
    random = np.random.default_rng(0)
    files = []
    for _ in range(count):
        file = BytesIO()
        pixels = random.normal(random.integers(0, 256, 3), 60, (side, side, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        files.append(file.getvalue())
    return files
