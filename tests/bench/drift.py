"""`python -m tests.bench.drift PHOTOS OTHERS`: the drift indices of new photos, and of others.

PHOTOS are split into halves at random, many times: one half is the reference, and windows are drawn from the
other half, which it never saw, and from OTHERS. A reference of half the photos is noisier than a bundle's.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from build.evidence.reference import answers_of
from service.bundle.folder import load_bundle
from service.images.pixels import Crop
from service.inference.classifier import Classifier
from service.monitoring.drift import LEAST_ANSWERS
from service.monitoring.stability import bins_of, stability_index
from service.settings import DEFAULT_BUNDLE, DEFAULT_DRIFT_WINDOW

SIGNALS = ("top1", "confidence")
_SUFFIXES = {".jpg", ".jpeg", ".png"}
_ROW = "| {} | {} | {} | {:.3f} | {:.3f} | {:.3f} | {:.3f} |\n"


def indices(reference: NDArray[np.float32], window: NDArray[np.float32]) -> dict[str, float]:
    """Return the index of each signal, as the service computes it.

    `reference` and `window` are probabilities, float32[images, classes]; their numbers of images may differ.
    """
    bins = bins_of(answers_of(reference))
    if bins is None:
        raise SystemExit(f"{len(reference)} photos are too few for a reference")
    classes, confidences = bins
    top1 = Counter(classes.of[index] for index in window.argmax(axis=1).tolist())
    confidence = Counter(confidences.of(value) for value in window.max(axis=1).tolist())
    return {
        "top1": stability_index(classes.expected, _counts(top1, len(classes.expected))),
        "confidence": stability_index(confidences.expected, _counts(confidence, len(confidences.expected))),
    }


def measure(
    photos: NDArray[np.float32],
    others: NDArray[np.float32],
    window: int,
    splits: int,
    share: float = 1.0,
) -> dict[str, NDArray[np.float64]]:
    """Return for each signal the indices of new photos, and with a `share` of others: float64[splits, 2].

    If a half has fewer photos than `window`, some are drawn more than once, which adds to the noise.
    """
    random = np.random.default_rng(0)

    def draw(of: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        return of[random.choice(len(of), count, replace=len(of) < count)]

    foreign = round(share * window)
    found: dict[str, list[tuple[float, float]]] = {signal: [] for signal in SIGNALS}
    for _ in range(splits):
        order = random.permutation(len(photos))
        reference, new = photos[order[: len(order) // 2]], photos[order[len(order) // 2 :]]
        of_new = indices(reference, draw(new, window))
        mixed = np.concatenate([draw(new, window - foreign), draw(others, foreign)])
        of_others = indices(reference, mixed)
        for signal in SIGNALS:
            found[signal].append((of_new[signal], of_others[signal]))
    return {signal: np.array(values) for signal, values in found.items()}


def _counts(counter: Counter[int], bins: int) -> list[int]:
    return [counter[number] for number in range(bins)]


def _answer(classifier: Classifier, folder: Path, crop: Crop) -> NDArray[np.float32]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    shown: Iterable[Path] = tqdm(paths, desc=str(folder), unit="image", dynamic_ncols=True)
    return np.stack([classifier.classify(path.read_bytes(), crop).probabilities for path in shown])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the distribution of the indices as a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.drift", description=__doc__)
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("others", type=Path, metavar="OTHERS")
    parser.add_argument("--variants", default="qat", metavar="A,B", help="of the default bundle (qat)")
    parser.add_argument("--crop", type=Crop, default=Crop.NONE, help="bundle or none (none)")
    parser.add_argument("--splits", type=int, default=1000, help="how often to split PHOTOS (1000)")
    parser.add_argument("--share", type=float, default=1.0, help="of OTHERS in their windows, 0 to 1 (1)")
    options = parser.parse_args(arguments)
    bundle = load_bundle(DEFAULT_BUNDLE)
    sys.stdout.write("| variant | signal | window | new: median | 99 % | others: 1 % | median |\n")
    sys.stdout.write("|---|---|--:|--:|--:|--:|--:|\n")
    for variant in options.variants.split(","):
        classifier = Classifier(bundle, variant)
        photos, others = (_answer(classifier, f, options.crop) for f in (options.photos, options.others))
        for window in (LEAST_ANSWERS, len(photos) // 2, DEFAULT_DRIFT_WINDOW):
            for signal, found in measure(photos, others, window, options.splits, options.share).items():
                new, other = np.quantile(found[:, 0], (0.5, 0.99)), np.quantile(found[:, 1], (0.01, 0.5))
                sys.stdout.write(_ROW.format(variant, signal, window, *new, *other))
    sys.stdout.write(f"\n{len(photos)} photos, {len(others)} others, {options.splits} splits\n")


if __name__ == "__main__":
    main()
