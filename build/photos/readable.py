"""Separating photos that can be decoded from those that can't, before the work begins."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from build.photos.data import PhotoSet, without_repeats
from service.bundle.manifest import Preprocessing
from service.measuring.readable import none_left, report_left_out, unreadable


def readable(
    sets: Sequence[PhotoSet], preprocessing: Preprocessing, *, skip_corrupt: bool = False
) -> list[PhotoSet]:
    """Return the sets after decoding every photo, so that long work does not stop halfway at a damaged one.

    With `skip_corrupt`, photos that can't be read are left out, and a line on standard error counts them and
    names the first ones. A photo that is in several sets is decoded once.

    Raises:
        DatasetError: some photos can't be read and are not to be skipped, or a class or a set has no others.
    """
    photos = without_repeats(sets)
    reasons = unreadable(photos, preprocessing, skip_corrupt=skip_corrupt)
    kept = [_without(photo_set, reasons) for photo_set in sets]
    report_left_out(photos, reasons)
    return kept


def _without(photo_set: PhotoSet, reasons: Mapping[str, str]) -> PhotoSet:
    kept = tuple(photo for photo in photo_set.photos if photo.sha256 not in reasons)
    labels = {photo.label for photo in kept}
    for photo in photo_set.photos:
        if photo.label not in labels:
            raise none_left(photo_set.name if photo.label is None else photo.path.parent, photo, reasons)
    return replace(photo_set, photos=kept)
