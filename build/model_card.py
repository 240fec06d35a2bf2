"""The model card of a bundle and its table, in Markdown: all of it from the manifest."""

from collections.abc import Sequence

from build.picture import PICTURE
from build.significance import mcnemar_p
from service.inference.evaluation import BASELINE
from service.manifest import (
    Baseline,
    Comparison,
    Evaluation,
    ImageSet,
    Manifest,
    Proportion,
    Resize,
    Training,
    Variant,
    reference_evaluation,
)

_HEADER = (
    "| variant | precision | MB | top-1 % (95 %) | top-5 % (95 %) | agreement % | KL nats"
    " | lost / won (p) | p50 ms | speed |\n"
    "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def variant_table(manifest: Manifest) -> str:
    """Every variant and baseline with its reference evaluation and latency, and what that was measured on."""
    rows = [_variant_row(manifest, name, variant) for name, variant in manifest.variants.items()]
    rows += [_baseline_row(name, baseline) for name, baseline in manifest.baselines.items()]
    return "\n".join([_HEADER, *rows, "", _table_notes(manifest)])


def model_card(manifest: Manifest) -> str:
    """The model card: what the bundle is, its numbers, how it came about, what it is not good for."""
    sections = [
        f"# {manifest.name}",
        f"{manifest.architecture}, {manifest.classes} classes, as TFLite variants for edgewise."
        f" Input: {_preprocessing(manifest)}. Output: one score per class."
        f" Licence of the weights: {manifest.licence}; the terms of the photos they were trained on may reach"
        " further.",
        f"## Numbers\n\n{variant_table(manifest)}",
        f"![Accuracy against latency and against bytes]({PICTURE})",
        f"## Every evaluation\n\n{evaluation_table(manifest)}",
        f"## How it came about\n\n{_training(manifest.training)}\n\n{_recipes(manifest)}",
        f"## What it is not good for\n\n{_limits(manifest)}",
    ]
    return "\n\n".join(sections) + "\n"


def _variant_row(manifest: Manifest, name: str, variant: Variant) -> str:
    base = manifest.variants[BASELINE].latency if BASELINE in manifest.variants else None
    latency = variant.latency
    p50 = f"{latency.p50_seconds * 1e3:.1f}" if latency else ""
    speed = f"{base.p50_seconds / latency.p50_seconds:.2f} ×" if base and latency else ""
    shown = f"**{name}**" if name == manifest.default_variant else name
    return _row(shown, variant.precision, variant.bytes, variant.evaluations, p50, speed)


def _baseline_row(name: str, baseline: Baseline) -> str:
    return _row(f"*{name}*", "", baseline.bytes, baseline.evaluations, "", "")


def _row(
    name: str, precision: str, size: int, evaluations: Sequence[Evaluation], p50: str, speed: str
) -> str:
    evaluation = reference_evaluation(evaluations)
    accuracy = [_percent(evaluation.top1), _percent(evaluation.top5)] if evaluation else ["", ""]
    compared = _compared(evaluation.comparison if evaluation else None)
    return "| " + " | ".join([name, precision, f"{size / 1e6:.1f}", *accuracy, *compared, p50, speed]) + " |"


def _compared(comparison: Comparison | None) -> list[str]:
    if comparison is None:
        return ["", "", ""]
    p = mcnemar_p(comparison.lost, comparison.won)
    agreement = f"{100 * comparison.agreement.ratio:.1f}"
    return [agreement, f"{comparison.kl_nats:.4f}", f"{comparison.lost} / {comparison.won} ({p:.2f})"]


def _table_notes(manifest: Manifest) -> str:
    notes = ["Bold: the default."]
    if BASELINE in manifest.variants:
        notes[0] += (
            f" Agreement (same top-1), mean KL and the images lost and won are against `{BASELINE}` on the"
            " same images; p is of McNemar's exact test."
        )
    default = manifest.variants[manifest.default_variant]
    evaluation, latency = reference_evaluation(default.evaluations), default.latency
    if evaluation:
        notes.append(
            f"Accuracy on {_image_set(evaluation.dataset)}, crop `{evaluation.crop}`; the network was neither"
            " trained nor calibrated on any of them."
        )
    if latency:
        notes.append(
            f"Latency is one inference without decoding, on one thread of {latency.machine}, by"
            f" {latency.runtime} with {latency.delegate}, {latency.runs} runs in turn: compare the ratios."
        )
    notes += [f"*{name}*, not in the bundle: {b.description}." for name, b in manifest.baselines.items()]
    return "\n".join(notes)


def evaluation_table(manifest: Manifest) -> str:
    """Every evaluation of every variant and baseline."""
    lines = ["| variant | images | crop | seen in training | top-1 % (95 %) | top-5 % (95 %) |"]
    lines.append("|---|---|---|--:|--:|--:|")
    evaluated = {name: variant.evaluations for name, variant in manifest.variants.items()}
    evaluated |= {name: baseline.evaluations for name, baseline in manifest.baselines.items()}
    for name, evaluations in evaluated.items():
        for evaluation in evaluations:
            dataset = f"{evaluation.dataset.images} of {evaluation.dataset.name}"
            seen = f"**{evaluation.seen_images}**" if evaluation.seen_images else "0"
            cells = [
                name,
                dataset,
                evaluation.crop,
                seen,
                _percent(evaluation.top1),
                _percent(evaluation.top5),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    note = (
        "On images seen in training the numbers say how well those were learned, not how new ones are told."
    )
    return "\n".join([*lines, "", note])


def _training(training: Training | None) -> str:
    if training is None:
        return "The network was not trained by edgewise."
    losses = "; ".join(f"{name} {value:.4f}" for name, value in training.losses.items())
    return "\n".join(
        [
            f"Fine-tuned with distillation from `{training.started_from}` (SHA-256 of the folded weights"
            f" {training.started_from_sha256[:16]}…), BatchNorm folded into the convolutions beforehand:",
            "",
            *(f"- {_image_set(images)}" for images in training.images),
            f"- {training.steps} steps of {training.batch_size}, learning rate {training.learning_rate:g},"
            f" seed {training.seed}, {training.seconds:.0f} seconds",
            f"- on held-out photos of these sets: {losses}",
            f"- `{training.command}`",
        ]
    )


def _recipes(manifest: Manifest) -> str:
    lines = []
    for name, variant in manifest.variants.items():
        made = variant.provenance
        recipe = ", ".join(f"{key} = {value}" for key, value in made.recipe.items())
        calibration = f", calibrated on {_image_set(made.calibration)}" if made.calibration else ""
        lines.append(f"- **{name}**: {recipe}{calibration}; `{made.command}`")
    tools = manifest.variants[manifest.default_variant].provenance.tools
    return "\n".join([*lines, f"- with {', '.join(f'{tool} {version}' for tool, version in tools.items())}"])


def _limits(manifest: Manifest) -> str:
    return (
        f"It tells apart its {manifest.classes} classes and nothing else: an image of anything else gets the"
        " likeliest of them all the same, so look at the probability. It says what is in an image, not where"
        " or how often. Accuracy on your own photos may differ from the numbers above; measure it with"
        " `python -m service evaluate`. It is not for decisions about people, nor where an error can harm."
    )


def _preprocessing(manifest: Manifest) -> str:
    p = manifest.preprocessing
    how = f"centre {p.crop_fraction:g} of the shorter side" if p.resize is Resize.SHORTER_SIDE else "squashed"
    return f"{p.height} × {p.width} RGB, {how}, {p.filter}"


def _image_set(images: ImageSet) -> str:
    return f"{images.images} images of {images.name} (SHA-256 {images.sha256[:16]}…)"


def _percent(share: Proportion) -> str:
    return f"{100 * share.ratio:.2f} ({100 * share.lower:.1f}–{100 * share.upper:.1f})"
