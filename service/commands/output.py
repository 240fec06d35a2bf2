"""Where the commands put their results: a person reads standard output, a program the JSON file.

How far they are goes to standard error.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from service.errors import StartError
from service.host.output import write_whole
from service.measuring.labelled import LabelledImage


def image_progress(images: Sequence[LabelledImage], variant: str) -> Iterable[LabelledImage]:
    """The images as they are gone through by a variant, which shows on standard error how far it is."""
    shown: Iterable[LabelledImage] = tqdm(images, desc=variant, unit="image", dynamic_ncols=True)
    return shown


def rounds_progress(rounds: Sequence[int]) -> Iterable[int]:
    """The rounds as they are gone through, which shows on standard error how far it is."""
    shown: Iterable[int] = tqdm(rounds, unit="round", dynamic_ncols=True)
    return shown


def write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write `result` to the file, where one is named.

    Raises:
        StartError: it can't be written.
    """
    if path is None:
        return
    try:
        write_whole(path, f"{json.dumps(result, indent=2)}\n".encode())
    except OSError as error:
        raise StartError(f"{path} can't be written: {error.strerror}") from None
