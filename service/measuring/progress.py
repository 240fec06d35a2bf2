"""How far a measurement is, shown on standard error; each is the `progress` of one kind of measurement."""

from collections.abc import Iterable, Sequence

from tqdm import tqdm

from service.measuring.labelled import LabelledImage


def image_progress(images: Sequence[LabelledImage], variant: str) -> Iterable[LabelledImage]:
    """The images as they are gone through by a variant."""
    shown: Iterable[LabelledImage] = tqdm(images, desc=variant, unit="image", dynamic_ncols=True)
    return shown


def rounds_progress(rounds: Sequence[int], of: str | None = None) -> Iterable[int]:
    """The rounds of a measurement as they are gone through; `of` names it, where there are others."""
    shown: Iterable[int] = tqdm(rounds, desc=of, unit="round", dynamic_ncols=True)
    return shown
