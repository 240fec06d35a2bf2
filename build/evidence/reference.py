"""The files that the reference evaluation adds to a bundle.

`reference.json`: what the drift of a running service is measured against. `per_class.csv`: how many
images of each class every variant gets right.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO

import numpy as np
from numpy.typing import NDArray

from service.bundle.folder import Bundle, Classes, read_file
from service.bundle.manifest import PER_CLASS, REFERENCE
from service.bundle.reference import QUANTILES, Answers, Reference
from service.errors import BundleError
from service.measuring.evaluation import Measured
from service.measuring.labelled import LabelledImage

_FIRST_COLUMNS = ("index", "class_id", "label", "images")


@dataclass(frozen=True)
class ClassCount:
    """One class in the reference evaluation: its images, and how many each variant gets right."""

    label: str
    images: int
    right: dict[str, int]


def reference_files(bundle: Bundle, images: Sequence[LabelledImage], measured: Measured) -> dict[str, bytes]:
    """Return the two files for a bundle whose variants were `measured` on `images`, in that order."""
    probabilities = {name: measured.probabilities[name] for name in bundle.manifest.variants}
    evaluation = measured.evaluations[bundle.manifest.default_variant]
    reference = Reference(
        dataset=evaluation.dataset,
        crop=evaluation.crop,
        variants={name: answers_of(answers) for name, answers in probabilities.items()},
    )
    return {
        REFERENCE: f"{reference.model_dump_json()}\n".encode(),
        PER_CLASS: _per_class(bundle.classes, [image.index for image in images], probabilities),
    }


def read_per_class(bundle: Bundle) -> tuple[ClassCount, ...]:
    """Return the rows of a bundle's `per_class.csv`, none if it has no such file.

    Raises:
        BundleError: the file is missing or damaged.
    """
    if PER_CLASS not in bundle.manifest.files:
        return ()
    content = read_file(bundle, PER_CLASS)
    try:
        return tuple(
            ClassCount(
                label=row["label"],
                images=int(row["images"]),
                right={name: int(row[name]) for name in bundle.manifest.variants},
            )
            for row in csv.DictReader(StringIO(content.decode(), newline=""))
        )
    except (KeyError, TypeError, ValueError, csv.Error):
        raise BundleError(
            f"{bundle.path / PER_CLASS} lacks valid counts of this bundle's variants; evaluate it again"
        ) from None


def answers_of(probabilities: NDArray[np.float32]) -> Answers:
    """Return what a variant answered, by its probabilities float32[images, classes]."""
    top1 = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])
    quantiles = np.quantile(probabilities.max(axis=1).astype(np.float64), np.linspace(0, 1, QUANTILES))
    # Rounding can push a quantile above 1, or below the previous one in its last digit.
    rising = np.maximum.accumulate(np.minimum(quantiles, 1))
    return Answers(top1=tuple(top1.tolist()), confidence=tuple(rising.tolist()))


def _per_class(
    classes: Classes, labels: Sequence[int], probabilities: Mapping[str, NDArray[np.float32]]
) -> bytes:
    total = Counter(labels)
    right = {
        name: Counter(
            label for label, top in zip(labels, answers.argmax(axis=1), strict=True) if label == top
        )
        for name, answers in probabilities.items()
    }
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_FIRST_COLUMNS, *probabilities])
    for index in sorted(total):
        class_id = classes.class_ids[index] if classes.class_ids else ""
        counts = (right[name][index] for name in probabilities)
        writer.writerow([index, class_id, classes.labels[index], total[index], *counts])
    return text.getvalue().encode()
