"""`python -m service evaluate FOLDER`: accuracy of a bundle's variants on labelled images."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from service.bundle import load_bundle
from service.commands.output import show, write_json
from service.commands.table import table
from service.inference.evaluation import Candidate
from service.inference.evaluation import evaluate as evaluate_variants
from service.inference.image import Crop
from service.inference.labelled import LabelledImage, labelled_images, refuse_two_labels
from service.manifest import Evaluation, Proportion
from service.settings import Settings


def evaluate(
    settings: Settings,
    folder: Path,
    *,
    variants: Sequence[str] | None,
    crop: Crop,
    allow_seen: bool,
    json_file: Path | None,
) -> None:
    """Evaluate `variants`, or all, on a folder with one folder per class; print and write the result.

    Raises:
        StartError: the bundle or the folder can't be used, or the network has seen some of the
            images and `allow_seen` is not set.
    """
    bundle = load_bundle(settings.bundle)
    images = labelled_images(folder, bundle.classes)
    refuse_two_labels(images)
    evaluations = evaluate_variants(
        {name: Candidate(bundle, name) for name in variants or bundle.manifest.variants},
        images,
        crop,
        folder.resolve().name,
        allow_seen=allow_seen,
        delegate=settings.delegate,
        progress=_progress,
    )
    show(_report(evaluations))
    write_json(
        json_file,
        {
            "bundle": bundle.manifest.name,
            "delegate": settings.delegate,
            "evaluations": {name: e.model_dump(mode="json") for name, e in evaluations.items()},
        },
    )


def _progress(images: Sequence[LabelledImage], variant: str) -> Iterable[LabelledImage]:
    shown: Iterable[LabelledImage] = tqdm(images, desc=variant, unit="image", dynamic_ncols=True)
    return shown


def _report(evaluations: dict[str, Evaluation]) -> str:
    first = next(iter(evaluations.values()))
    dataset = first.dataset
    lines = [
        f"{dataset.name}: {dataset.images} images, crop={first.crop}, images' SHA-256 {dataset.sha256[:16]}…"
    ]
    if first.seen_images:
        lines.append(
            f"NOT TEST ACCURACY: the network was trained or calibrated on {first.seen_images} of these images"
        )
    header = ["variant", "top-1 % (95 %)", "top-5 % (95 %)", "agreement % (95 %)", "KL nats", "lost", "won"]
    return "\n".join([*lines, "", table(header, [_row(*item) for item in evaluations.items()])])


def _row(name: str, evaluation: Evaluation) -> list[str]:
    comparison = evaluation.comparison
    compared = (
        [
            _percent(comparison.agreement),
            f"{comparison.kl_nats:.4f}",
            str(comparison.lost),
            str(comparison.won),
        ]
        if comparison
        else ["", "", "", ""]
    )
    return [name, _percent(evaluation.top1), _percent(evaluation.top5), *compared]


def _percent(share: Proportion) -> str:
    return f"{100 * share.ratio:.2f} ({100 * share.lower:.1f}–{100 * share.upper:.1f})"
