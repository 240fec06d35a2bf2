"""Bundles with evaluated variants, with a reference for drift or without."""

from pathlib import Path

from service.bundle.folder import Bundle
from service.bundle.manifest import REFERENCE, Evaluation, ImageSet
from service.bundle.reference import QUANTILES
from service.measuring.evaluation import proportion
from tests.colours import PRECISIONS, altered

DATASET = ImageSet(name="some", images=4, sha256="0" * 64)


def evaluation(right: int, dataset: ImageSet = DATASET) -> Evaluation:
    """The reference evaluation of a variant that is right on that many of the images."""
    return Evaluation(
        dataset=dataset,
        crop="none",
        seen_images=0,
        runtime="r",
        delegate="xnnpack",
        tools={},
        top1=proportion(right, dataset.images),
        top5=proportion(dataset.images, dataset.images),
        ece=0.25,
        reference=True,
    )


def with_top1(percent: int) -> dict[str, tuple[Evaluation]]:
    """The field of a variant that has this top-1."""
    return {"evaluations": (evaluation(percent, DATASET.model_copy(update={"images": 100})),)}


EVALUATION = evaluation(3)
# The fields of a drift reference on the same images.
FIELDS = {
    "dataset": DATASET.model_dump(),
    "crop": "none",
    "variants": {
        name: {"top1": [1, 0, 2, 1, 0], "confidence": [i / (QUANTILES - 1) for i in range(QUANTILES)]}
        for name in PRECISIONS
    },
}


def with_reference(bundle: Bundle, path: Path, content: bytes, evaluation: Evaluation = EVALUATION) -> Bundle:
    """Write the bundle with a reference of this content, which that evaluation of every variant names."""
    evaluated = {name: {"evaluations": (evaluation,)} for name in PRECISIONS}
    return altered(bundle, path, {REFERENCE: content}, **evaluated)
