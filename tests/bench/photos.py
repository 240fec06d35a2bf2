"""The photos to send: made from tests/data/cat.jpg, the same on every machine."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

CAT = Path(__file__).parents[1] / "data" / "cat.jpg"


@dataclass(frozen=True)
class Photo:
    """A JPEG on disk."""

    name: str
    path: Path
    width: int
    height: int

    @property
    def data(self) -> bytes:
        """The file's bytes."""
        return self.path.read_bytes()

    def __str__(self) -> str:
        size = self.path.stat().st_size
        amount = f"{size / 1e3:.0f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"
        return f"{self.name} ({self.width} × {self.height}, {amount})"


def _write(folder: Path, *, name: str, width: int, height: int, noise: float, quality: int) -> Photo:
    """Write the cat at this size, with sensor noise: an enlarged photo would have few bytes to decode."""
    with Image.open(CAT) as cat:
        pixels = np.asarray(cat.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
    grain = np.random.default_rng(0).normal(0, noise, (height, width, 1))
    noisy = (pixels + grain).round().clip(0, 255).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=quality)
    path = folder / f"{width}x{height}.jpg"
    path.write_bytes(buffer.getvalue())
    return Photo(name, path, width, height)


# `wide` has about as many bytes as `small`, but enough pixels for the decoder to halve it.
PHOTOS: dict[str, Callable[[Path], Photo]] = {
    "small": partial(_write, name="100 kB", width=800, height=600, noise=5.0, quality=85),
    "wide": partial(_write, name="100 kB, 1280 wide", width=1280, height=960, noise=0.5, quality=80),
    "large": partial(_write, name="12 MP", width=4000, height=3000, noise=9.0, quality=85),
}
