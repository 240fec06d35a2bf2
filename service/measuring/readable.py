"""Finds the images that can't be decoded, before long work begins."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from service.bundle.manifest import Preprocessing
from service.errors import DatasetError, RequestError
from service.host.cores import usable_cores
from service.host.ending import print_notice
from service.images.pixels import DEFAULT_LIMITS, DecodeLimits, load_pixels
from service.images.room import NoRoom, Room
from service.measuring.labelled import LabelledImage

_NAMED = 3


class ImageFile(Protocol):
    """An image file, and the SHA-256 of its bytes."""

    @property
    def path(self) -> Path:
        """Where it is."""
        ...

    @property
    def sha256(self) -> str:
        """In hex."""
        ...


def readable_images(
    images: Sequence[LabelledImage], preprocessing: Preprocessing, limits: DecodeLimits, *, skip_corrupt: bool
) -> list[LabelledImage]:
    """Return the images after decoding each; with `skip_corrupt`, without those that can't be read.

    Raises:
        DatasetError: an image can't be read and `skip_corrupt` is not set, or its class has no others.
    """
    reasons = unreadable(images, preprocessing, limits, skip_corrupt=skip_corrupt)
    kept = [image for image in images if image.sha256 not in reasons]
    classes = {image.index for image in kept}
    for image in images:
        if image.index not in classes:
            raise none_left(image.path.parent, image, reasons)
    report_left_out(images, reasons)
    return kept


def unreadable(
    images: Sequence[ImageFile],
    preprocessing: Preprocessing,
    limits: DecodeLimits = DEFAULT_LIMITS,
    *,
    skip_corrupt: bool,
) -> dict[str, str]:
    """Decode each image within `limits`, and return why some can't be, by their SHA-256.

    Raises:
        DatasetError: there are some and `skip_corrupt` is not set.
    """
    reasons = _reasons(images, preprocessing, limits) if images else {}
    if reasons and not skip_corrupt:
        count, first = _described(images, reasons)
        raise DatasetError(f"{count}, {first} (--skip-corrupt leaves them out)")
    return reasons


def report_left_out(images: Sequence[ImageFile], reasons: Mapping[str, str]) -> None:
    """Count the images that are left out on standard error, and name the first ones, if there are any."""
    if reasons:
        count, first = _described(images, reasons)
        print_notice(f"{count} and are left out, {first}")


def none_left(where: Path | str, first: ImageFile, reasons: Mapping[str, str]) -> DatasetError:
    """Return the error for a class or a set without an image that can be read."""
    return DatasetError(
        f"none of the images in {where} can be read, first {first.path}: {reasons[first.sha256]}"
    )


def _described(images: Sequence[ImageFile], reasons: Mapping[str, str]) -> tuple[str, str]:
    """Return how many images can't be read, and which are the first ones and why."""
    named = [f"{image.path}: {reasons[image.sha256]}" for image in images if image.sha256 in reasons]
    return f"{len(named)} of {len(images)} images can't be read", f"first {'; '.join(named[:_NAMED])}"


def _reasons(
    images: Sequence[ImageFile], preprocessing: Preprocessing, limits: DecodeLimits
) -> dict[str, str]:
    """Return the reasons why images can't be decoded, by their digest."""
    room = Room[ImageFile](limits.max_decode_bytes)
    alone = threading.Lock()

    def decode(data: bytes) -> None:
        try:
            load_pixels(data, preprocessing, limits=limits, room=room)
        except NoRoom:
            # On all of a workstation's cores at once, large photos would take all its memory.
            with alone:
                load_pixels(data, preprocessing, limits=limits)

    def reason(image: ImageFile) -> str | None:
        try:
            decode(image.path.read_bytes())
        except RequestError as error:
            return str(error)
        return None

    # By default there would be more than the cores, each with a photo in memory, in a container many more.
    threads = ThreadPoolExecutor(usable_cores())
    try:
        reasons = threads.map(reason, images)
        checked = tqdm(reasons, desc="check", total=len(images), unit="image", dynamic_ncols=True)
        return {image.sha256: why for image, why in zip(images, checked, strict=True) if why is not None}
    finally:
        threads.shutdown(cancel_futures=True)  # An interruption does not wait for the rest.
