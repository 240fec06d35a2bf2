"""Separating photos that can be decoded from those that can't, before the work begins."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tqdm import tqdm

from build.errors import BuildError
from build.photos.data import Photo, PhotoSet, without_repeats
from service.bundle.manifest import Preprocessing
from service.errors import RequestError
from service.host.ending import print_notice
from service.images.pixels import DEFAULT_LIMITS, load_pixels
from service.images.room import NoRoom, Room

_NAMED = 3


def readable(
    sets: Sequence[PhotoSet], preprocessing: Preprocessing, *, skip_corrupt: bool = False
) -> list[PhotoSet]:
    """Return the sets after decoding every photo, so that long work does not stop halfway at a damaged one.

    With `skip_corrupt`, photos that can't be read are left out, and a line on standard error counts them and
    names the first ones. A photo that is in several sets is decoded once.

    Raises:
        BuildError: some photos can't be read and are not to be skipped, or a class or a set has no others.
    """
    photos = without_repeats(sets)
    reasons = _reasons(photos, preprocessing) if photos else {}
    if not reasons:
        return list(sets)
    named = [f"{photo.path}: {reasons[photo.sha256]}" for photo in photos if photo.sha256 in reasons]
    count = f"{len(named)} of {len(photos)} images can't be read"
    first = "; ".join(named[:_NAMED])
    if not skip_corrupt:
        raise BuildError(f"{count}, first {first} (--skip-corrupt leaves them out)")
    kept = [_without(photo_set, reasons) for photo_set in sets]
    print_notice(f"{count} and are left out, first {first}")
    return kept


def _reasons(photos: Sequence[Photo], preprocessing: Preprocessing) -> dict[str, str]:
    """Return the reasons why photos can't be decoded, by their digest."""
    room = Room[Photo](DEFAULT_LIMITS.max_decode_bytes)
    alone = threading.Lock()

    def decode(data: bytes) -> None:
        try:
            load_pixels(data, preprocessing, room=room)
        except NoRoom:
            # On all of a workstation's cores at once, large photos would take all its memory.
            with alone:
                load_pixels(data, preprocessing)

    def reason(photo: Photo) -> str | None:
        try:
            decode(photo.path.read_bytes())
        except RequestError as error:
            return str(error)
        return None

    threads = ThreadPoolExecutor()
    try:
        checked = tqdm(threads.map(reason, photos), desc="check", total=len(photos), unit="photo")
        return {photo.sha256: why for photo, why in zip(photos, checked, strict=True) if why is not None}
    finally:
        threads.shutdown(cancel_futures=True)  # An interruption does not wait for the rest.


def _without(photo_set: PhotoSet, unreadable: Mapping[str, str]) -> PhotoSet:
    kept = tuple(photo for photo in photo_set.photos if photo.sha256 not in unreadable)
    labels = {photo.label for photo in kept}
    for photo in photo_set.photos:
        if photo.label not in labels:
            where = photo_set.name if photo.label is None else photo.path.parent
            raise BuildError(
                f"none of the images in {where} can be read, first {photo.path}: {unreadable[photo.sha256]}"
            )
    return replace(photo_set, photos=kept)
