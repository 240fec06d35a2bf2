"""Progress bars on standard error; each function is the `progress` of one kind of measurement."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from tqdm import tqdm

from service.measuring.labelled import LabelledImage

_T = TypeVar("_T")


def image_progress(images: Sequence[LabelledImage], variant: str) -> Iterable[LabelledImage]:
    """Return the images, showing a variant's progress through them."""
    return _shown(images, variant, "image")


def rounds_progress(rounds: Sequence[int], of: str | None = None) -> Iterable[int]:
    """Return the rounds of a measurement, showing progress; `of` names it if there are several."""
    return _shown(rounds, of, "round")


def variants_progress(variants: Sequence[str]) -> Iterable[str]:
    """Return the variants, showing progress."""
    return _shown(variants, None, "variant")


def _shown(them: Sequence[_T], of: str | None, unit: str) -> Iterable[_T]:
    shown: Iterable[_T] = tqdm(them, desc=of, unit=unit, dynamic_ncols=True)
    return shown
