"""How far a measurement is, shown on standard error; each is the `progress` of one kind of measurement."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from tqdm import tqdm

from service.measuring.labelled import LabelledImage

_T = TypeVar("_T")


def image_progress(images: Sequence[LabelledImage], variant: str) -> Iterable[LabelledImage]:
    """The images as they are gone through by a variant."""
    return _shown(images, variant, "image")


def rounds_progress(rounds: Sequence[int], of: str | None = None) -> Iterable[int]:
    """The rounds of a measurement as they are gone through; `of` names it, where there are others."""
    return _shown(rounds, of, "round")


def variants_progress(variants: Sequence[str]) -> Iterable[str]:
    """The variants as they are gone through."""
    return _shown(variants, None, "variant")


def _shown(them: Sequence[_T], of: str | None, unit: str) -> Iterable[_T]:
    shown: Iterable[_T] = tqdm(them, desc=of, unit=unit, dynamic_ncols=True)
    return shown
