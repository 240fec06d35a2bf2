"""Accuracy of a bundle's variants, written into its manifest."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from build.bundle_writing import bundle_files, rewrite_bundle
from build.errors import BuildError
from build.evidence.reference import reference_files
from build.evidence.tables import described_images, settings_in_words
from build.photos.data import PhotoSet
from build.quantization.recipe import load_recipe
from service.bundle.folder import Bundle, sha256_of
from service.bundle.manifest import (
    BASELINE,
    PER_CLASS,
    REFERENCE,
    Baseline,
    Evaluation,
    Manifest,
    Variant,
    reference_evaluation,
)
from service.images.pixels import Crop
from service.measuring.evaluation import Candidate, Measured, evaluate
from service.measuring.labelled import LabelledImage
from service.measuring.progress import image_progress

if TYPE_CHECKING:
    from build.network.weights import Network

START = "start"
START_DESCRIPTION = "the weights that training started from, in float32"

# What identifies an evaluation of a variant: the images' SHA-256, and the crop.
_Conditions = tuple[str, Literal["bundle", "none"]]
_Part = TypeVar("_Part", Variant, Baseline)


def record_evaluation(
    bundle: Bundle,
    images: Sequence[LabelledImage],
    dataset_name: str,
    crop: Crop,
    *,
    allow_seen: bool = False,
    as_reference: bool = False,
    start: "Network | None" = None,
    baselines: Sequence[Bundle] = (),
) -> Bundle:
    """Evaluate every variant on labelled images and write the bundle with the results.

    An evaluation on the same images with the same crop is replaced. The first evaluation on images that the
    network has not seen becomes the reference; a later one does if `as_reference` is set. `reference.json`
    and `per_class.csv` are of the reference. A baseline that has seen some of its images, which needs
    `allow_seen`, has none.
    `start`, the network before training, and every variant of `baselines` are measured alongside, as
    baselines that are not in the bundle. Variants that the bundle has itself are left out.

    Raises:
        BuildError: a baseline's name is taken, or its classes are not the bundle's.
        StartError: the network, or a baseline's, has seen some of the images and `allow_seen` is not set.
    """
    others = _candidates(bundle, baselines)
    with tempfile.TemporaryDirectory() as scratch:
        if start is not None:
            # Imported here because it loads TensorFlow.
            from build.assembly.variants import quantize

            recipe = load_recipe(BASELINE)
            before = quantize(start, [recipe], PhotoSet(START, ()), START, Path(scratch) / START)
            others[START] = Candidate(before, BASELINE)
        variants = {name: Candidate(bundle, name) for name in bundle.manifest.variants}
        measured = evaluate(
            variants | others, images, crop, dataset_name, allow_seen=allow_seen, progress=image_progress
        )
    named = bundle.manifest.baselines | {
        name: _baseline(name, candidate, bundle.manifest.baselines.get(name))
        for name, candidate in others.items()
    }
    manifest = bundle.manifest.model_copy(update={"baselines": named})
    return _write(bundle, manifest, images, measured, as_reference=as_reference)


def reference_in_words(manifest: Manifest) -> str:
    """Return which evaluation is the reference, and how to make the latest one the reference if it can be."""
    evaluations = manifest.variants[manifest.default_variant].evaluations
    reference = reference_evaluation(evaluations)
    if reference is None:
        return "There is no reference: it must be on images that the network has not seen."
    words = f"Reference: {described_images(reference.dataset)}, crop {reference.crop}"
    latest = evaluations[-1]
    if latest.reference or latest.seen_images:
        return f"{words}."
    return (
        f"{words}; --reference makes the evaluation on {latest.dataset.images} images of"
        f" {latest.dataset.name}, crop {latest.crop}, the reference instead."
    )


def _candidates(bundle: Bundle, baselines: Sequence[Bundle]) -> dict[str, Candidate]:
    candidates: dict[str, Candidate] = {}
    for baseline in baselines:
        if baseline.classes != bundle.classes:
            raise BuildError(f"{baseline.path} can't be a baseline for {bundle.path}: it has other classes")
        for name, variant in baseline.manifest.variants.items():
            own = bundle.manifest.variants.get(name)
            if own is not None and own.sha256 == variant.sha256:
                continue
            earlier = bundle.manifest.baselines.get(name)
            taken = {*bundle.manifest.variants, *candidates, START}
            if name in taken or (earlier is not None and earlier.sha256 != variant.sha256):
                raise BuildError(
                    f"{baseline.path} has a variant {name}, but another variant or baseline of {bundle.path}"
                    " has that name; quantize the baseline with a recipe of another name"
                )
            candidates[name] = Candidate(baseline, name)
    return candidates


def _baseline(name: str, candidate: Candidate, earlier: Baseline | None) -> Baseline:
    variant = candidate.bundle.variant(candidate.variant)
    kept = earlier.evaluations if earlier is not None and earlier.sha256 == variant.sha256 else ()
    baseline = baseline_of(variant, kept)
    if name == START:
        return baseline.model_copy(update={"description": START_DESCRIPTION, "provenance": None})
    return baseline


def baseline_of(variant: Variant, evaluations: tuple[Evaluation, ...]) -> Baseline:
    """Return a variant as a baseline of a bundle that does not hold it."""
    return Baseline(
        description=_described(variant),
        sha256=variant.sha256,
        bytes=variant.bytes,
        wire_bytes=variant.wire.bytes if variant.wire else None,
        precision=variant.precision,
        provenance=variant.provenance,
        evaluations=evaluations,
    )


def _described(variant: Variant) -> str:
    made = variant.provenance
    recipe = settings_in_words({key: value for key, value in made.recipe.items() if key != "name"})
    name = f"recipe {made.recipe['name']}: " if "name" in made.recipe else ""
    images = made.calibration
    calibrated = f", calibrated on {images.images} images of {images.name}" if images else ""
    return f"{name}{recipe}{calibrated}"


def _write(
    bundle: Bundle,
    manifest: Manifest,
    images: Sequence[LabelledImage],
    measured: Measured,
    *,
    as_reference: bool,
) -> Bundle:
    """Write the bundle with what was measured, and the reference's files if this is the reference."""
    reference = _reference(manifest, measured, as_reference=as_reference)
    new = measured.evaluations

    def updated(parts: Mapping[str, _Part]) -> dict[str, _Part]:
        return {
            name: part.model_copy(update={"evaluations": _merged(part.evaluations, new.get(name), reference)})
            for name, part in parts.items()
        }

    added: dict[str, bytes] = {}
    if reference == _conditions(new[manifest.default_variant]):
        added = reference_files(bundle, images, measured)
    dropped = {REFERENCE, PER_CLASS} if reference is None else set()
    files = manifest.files | {name: sha256_of(content) for name, content in added.items()}
    update = {
        "variants": updated(manifest.variants),
        "baselines": updated(manifest.baselines),
        "files": {name: digest for name, digest in files.items() if name not in dropped},
    }
    content = {name: file for name, file in bundle_files(bundle).items() if name not in dropped}
    return rewrite_bundle(bundle, manifest.model_copy(update=update), content | added)


def _reference(manifest: Manifest, measured: Measured, *, as_reference: bool) -> _Conditions | None:
    """Return which evaluation is the reference of all variants, and of all baselines that have it."""
    earlier = reference_evaluation(manifest.variants[manifest.default_variant].evaluations)
    new = measured.evaluations[manifest.default_variant]
    replaces = as_reference and new.seen_images == 0
    if earlier is not None and _conditions(earlier) != _conditions(new) and not replaces:
        return _conditions(earlier)
    return _conditions(new) if new.seen_images == 0 else None


def _conditions(evaluation: Evaluation) -> _Conditions:
    return evaluation.dataset.sha256, evaluation.crop


def _merged(
    earlier: Sequence[Evaluation], new: Evaluation | None, reference: _Conditions | None
) -> tuple[Evaluation, ...]:
    kept = [e for e in earlier if new is None or _conditions(e) != _conditions(new)]
    return tuple(
        e.model_copy(update={"reference": _conditions(e) == reference and e.seen_images == 0})
        for e in (*kept, *([new] if new else []))
    )
