"""`python -m service evaluate FOLDER`: accuracy of a bundle's variants on labelled images."""

from collections.abc import Sequence
from pathlib import Path

from service.bundle.folder import Bundle, load_bundle
from service.bundle.manifest import BASELINE, Comparison, Evaluation, comparison_with
from service.commands.output import write_result
from service.commands.table import table
from service.commands.variants import variants_to_measure
from service.errors import StartError
from service.images.pixels import Crop
from service.measuring.evaluation import Candidate, count_seen
from service.measuring.evaluation import evaluate as evaluate_variants
from service.measuring.labelled import labelled_images, refuse_two_labels
from service.measuring.progress import image_progress
from service.measuring.readable import readable_images
from service.results.words import accuracy_cells, divergence_in_words, percent
from service.settings import Settings


def evaluate(
    settings: Settings,
    folder: Path,
    *,
    variants: Sequence[str] | None,
    against: str | None,
    crop: Crop,
    allow_seen: bool,
    skip_corrupt: bool,
    json_file: Path | None,
) -> None:
    """Evaluate variants on a folder with one folder per class; print and write the result.

    `variants`: None means all that are here.
    `against`: the variant that the others are compared with; None means `fp32`, if that is evaluated.

    Raises:
        StartError: the bundle or the folder can't be used, `against` is not evaluated, an image can't be read
            and `skip_corrupt` is not set, or the network has seen some of them and `allow_seen` is not set.
    """
    bundle = load_bundle(settings.bundle, settings.bundle_public_key)
    names = variants_to_measure(bundle, variants)
    if against is not None and against not in names:
        raise StartError(f"--against {against} must be one of those evaluated: {', '.join(names)}")
    limits, preprocessing = settings.decode_limits, bundle.manifest.preprocessing
    candidates = {name: Candidate(bundle, name) for name in names}
    found = labelled_images(folder, bundle.classes)
    # First, so that nobody waits for all images to be decoded, only to be refused.
    count_seen(candidates, found, allow_seen=allow_seen)
    # Before the evaluation, which would otherwise stop halfway at a damaged image.
    images = readable_images(found, preprocessing, limits, skip_corrupt=skip_corrupt)
    refuse_two_labels(images)
    evaluations = evaluate_variants(
        candidates,
        images,
        crop,
        folder.resolve().name,
        allow_seen=allow_seen,
        delegate=settings.chosen_delegate,
        limits=limits,
        progress=image_progress,
    ).evaluations
    written = {
        "bundle": bundle.manifest.name,
        "delegate": str(settings.delegate),
        "evaluations": {name: e.model_dump(mode="json") for name, e in evaluations.items()},
    }
    write_result(_report(bundle, evaluations, against or BASELINE), json_file, written)


def _report(bundle: Bundle, evaluations: dict[str, Evaluation], against: str) -> str:
    first = next(iter(evaluations.values()))
    dataset = first.dataset
    lines = [
        f"{dataset.name}: {dataset.images} images, crop={first.crop}, images' SHA-256 {dataset.sha256[:16]}…"
    ]
    if first.seen_images:
        lines.append(
            f"NOT TEST ACCURACY: the network was trained or calibrated on {first.seen_images} of these images"
        )
    unknown = [name for name in evaluations if not bundle.variant(name).provenance.knows_its_images]
    if unknown:
        names = ", ".join(unknown)
        lines.append(f"nothing is known about the images that {names} may have been trained or calibrated on")
    header = ["variant", "top-1 % (95 %)", "top-5 % (95 %)", "ECE %"]
    classes = bundle.manifest.classes
    rows = [[name, *accuracy_cells(evaluation, classes)] for name, evaluation in evaluations.items()]
    if against in evaluations and len(evaluations) > 1:
        lines.append(f"agreement, KL, lost and won: against {against}")
        header += ["agreement % (95 %)", "KL nats", "lost", "won"]
        compared = (_compared(comparison_with(e, against)) for e in evaluations.values())
        rows = [row + cells for row, cells in zip(rows, compared, strict=True)]
    return "\n".join([*lines, "", table(header, rows)])


def _compared(comparison: Comparison | None) -> list[str]:
    if comparison is None:  # The variant that the others are compared with.
        return [""] * 4
    return [
        percent(comparison.agreement),
        divergence_in_words(comparison),
        str(comparison.lost),
        str(comparison.won),
    ]
