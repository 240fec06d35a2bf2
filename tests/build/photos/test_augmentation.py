import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from build.photos.augmentation import _random_box


@given(
    width=st.integers(1, 4000),
    height=st.integers(1, 4000),
    least=st.floats(0.05, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_view_is_within_the_photo_and_has_its_minimum_area(
    width: int, height: int, least: float, seed: int
) -> None:
    left, top, right, bottom = _random_box(width, height, least, np.random.default_rng(seed))
    assert 0 <= left < right <= width * (1 + 1e-9)
    assert 0 <= top < bottom <= height * (1 + 1e-9)
    assert (right - left) * (bottom - top) >= least * width * height * (1 - 1e-9)
