from io import BytesIO

import numpy as np
from PIL import Image

from build.picture import pareto_picture
from service.bundle import Bundle
from service.manifest import Manifest


def pixels(manifest: Manifest) -> np.ndarray:
    with Image.open(BytesIO(pareto_picture(manifest))) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_the_picture_shows_a_point_a_variant(measured: Bundle, small: Bundle) -> None:
    with_points, without = pixels(measured.manifest), pixels(small.manifest)
    assert with_points.shape == without.shape == (540, 1200, 3)
    assert len(np.unique(without)) > 10  # Axes and text.
    # Of the colours that Matplotlib gives one point after another: two, on both halves.
    for half in (with_points[:, :600], with_points[:, 600:]):
        assert has(half, (31, 119, 180))
        assert has(half, (255, 127, 14))
    assert not has(without, (31, 119, 180))


def test_the_same_numbers_make_the_same_bytes(measured: Bundle) -> None:
    assert pareto_picture(measured.manifest) == pareto_picture(measured.manifest)


def has(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((image == colour).all(axis=2).any())
