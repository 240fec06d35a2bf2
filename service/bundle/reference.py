"""The answers of a bundle's variants to images that they were not trained on: `reference.json`.

The drift of a running service is measured against them.
"""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from service.bundle.folder import Bundle, read_file
from service.bundle.manifest import REFERENCE, Frozen, ImageSet, Ratio, VariantName, reference_evaluation
from service.bundle.validation import first_fault
from service.errors import BundleError

# The 0, 1, … 100 % quantiles: any number of bins of equal frequency, up to 20, can be cut from them.
QUANTILES = 101


class Answers(Frozen):
    """The answers of one variant.

    `top1`: how often each class was the top-1, by index. `confidence`: the 0 … 100 %
    quantiles of the top-1 probability, in steps of 1 %.
    """

    top1: tuple[NonNegativeInt, ...]
    confidence: Annotated[tuple[Ratio, ...], Field(min_length=QUANTILES, max_length=QUANTILES)]

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if any(low > high for low, high in pairwise(self.confidence)):
            raise ValueError("the quantiles of confidence must not decrease")
        return self


class Reference(Frozen):
    """The content of `reference.json`: the reference evaluation's images, and the answers to them."""

    dataset: ImageSet
    crop: Literal["bundle", "none"]
    variants: dict[VariantName, Answers]

    @model_validator(mode="after")
    def _counts_every_image(self) -> Self:
        for name, answers in self.variants.items():
            if sum(answers.top1) != self.dataset.images:
                raise ValueError(
                    f"{name}: top1 counts {sum(answers.top1)} images, but dataset has {self.dataset.images}"
                )
        return self


def read_reference(bundle: Bundle) -> Reference | None:
    """Return a bundle's reference, or None if the bundle has none.

    Raises:
        BundleError: the file is missing, damaged, or not for this bundle's reference evaluation.
    """
    if REFERENCE not in bundle.manifest.files:
        return None
    file = bundle.path / REFERENCE
    try:
        reference = Reference.model_validate_json(read_file(bundle, REFERENCE))
    except ValidationError as error:
        raise BundleError(f"{file} is not valid: {first_fault(error)}; build the bundle again") from None
    for name, variant in bundle.manifest.variants.items():
        answers, evaluation = reference.variants.get(name), reference_evaluation(variant.evaluations)
        fits = (
            answers is not None
            and len(answers.top1) == bundle.manifest.classes
            and evaluation is not None
            and (evaluation.dataset, evaluation.crop) == (reference.dataset, reference.crop)
        )
        if not fits:
            raise BundleError(
                f"{file} is not for {name}'s reference evaluation in the manifest; evaluate the bundle again"
            )
    return reference
