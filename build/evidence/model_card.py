"""A bundle's model card, in Markdown, from its manifest and its counts per class."""

from collections.abc import Sequence
from statistics import median

from build.evidence.reference import ClassCount
from build.evidence.tables import (
    described_images,
    evaluation_table,
    pair_table,
    settings_in_words,
    variant_table,
)
from service.bundle.manifest import BASELINE, PER_CLASS, Manifest, Resize, Temperature, Training

PICTURE = "variants.png"

# One image fewer in a class says nothing.
_LEAST_LOSS = 2
_FEW_IMAGES = 10
_MOST_CLASSES = 10


def model_card(manifest: Manifest, classes: Sequence[ClassCount]) -> str:
    """Return the model card: what the bundle is, its numbers, how it was made, its limitations.

    `classes`: the counts per class of the reference evaluation, if there is one.
    """
    pairs, losses = pair_table(manifest), _class_losses(manifest.default_variant, classes)
    sections = [
        f"# {manifest.name}",
        f"{manifest.architecture}, {manifest.classes} classes, as TFLite variants for edgewise."
        f" Input: {_preprocessing(manifest)}. Output: one score per class."
        f" Licence of the weights: {manifest.licence}; the terms of the photos they were trained on may"
        " restrict their use further.",
        f"## Numbers\n\n{variant_table(manifest)}",
        f"![Accuracy against latency and against bytes]({PICTURE})",
        *([f"## Pairwise comparison\n\n{pairs}"] if pairs else []),
        *([f"## Class by class\n\n{losses}"] if losses else []),
        f"## All evaluations\n\n{evaluation_table(manifest)}",
        f"## How it was made\n\n{_training(manifest.training)}\n\n{_recipes(manifest)}",
        f"## Limitations\n\n{_limits(manifest)}",
    ]
    return "\n\n".join(sections) + "\n"


def _class_losses(default: str, classes: Sequence[ClassCount]) -> str:
    """Return on which classes the default loses most against `fp32`; empty if that was not evaluated."""
    if default == BASELINE or not classes or BASELINE not in classes[0].right:
        return ""
    typical = median(row.images for row in classes)
    intro = (
        f"[{PER_CLASS}]({PER_CLASS}) lists how many images of each class every variant gets right:"
        f" {len(classes)} classes in the reference evaluation, with a median of {typical:g} per class."
    )
    few = " That is too few to judge a variant on one class." if typical < _FEW_IMAGES else ""
    if max(row.images for row in classes) < _LEAST_LOSS:
        return intro + few
    lost = [(row.right[BASELINE] - row.right[default], row) for row in classes]
    worst = sorted((pair for pair in lost if pair[0] >= _LEAST_LOSS), key=lambda pair: -pair[0])
    if not worst:
        return f"{intro}{few} In no class does `{default}` get {_LEAST_LOSS} fewer right than `{BASELINE}`."
    rows = [
        f"| {row.label.replace('|', ' ')} | {row.images} | {row.right[BASELINE]} | {row.right[default]} |"
        for _, row in worst[:_MOST_CLASSES]
    ]
    return "\n".join(
        [
            f"{intro}{few} In {len(worst)} classes `{default}` gets at least {_LEAST_LOSS} fewer right than"
            f" `{BASELINE}`. The largest losses, of which some are chance if there are many classes:",
            "",
            f"| class | images | {BASELINE} | {default} |",
            "|---|--:|--:|--:|",
            *rows,
        ]
    )


_METHODS = {
    "distillation": "Fine-tuned with distillation",
    "new-classes": "Fitted to these classes, a new head first and then the whole network,",
    "quantization-aware": "Trained in int8, with distillation from the float network,",
}


def _training(training: Training | None) -> str:
    if training is None:
        return "The network was not trained by edgewise."
    return "\n".join(
        [
            f"{_METHODS[training.method]} from `{training.started_from}` (SHA-256 of the folded weights"
            f" {training.started_from_sha256[:16]}…), BatchNorm folded into the convolutions beforehand:",
            "",
            *(f"- {line}" for line in _training_facts(training)),
            f"- `{training.command}`",
        ]
    )


def _training_facts(training: Training) -> list[str]:
    losses = "; ".join(f"{name} {value:.4f}" for name, value in training.losses.items())
    facts = [
        *map(described_images, training.images),
        f"{training.steps} steps of {training.batch_size}, learning rate {training.learning_rate:g},"
        f" seed {training.seed}, {training.seconds:.0f} seconds",
        f"on held-out photos: {losses}",
    ]
    if training.temperature:
        facts.append(_temperature(training.temperature))
    return facts


def _temperature(fitted: Temperature) -> str:
    return (
        f"logits divided by a temperature of {fitted.value:g}, fitted on {described_images(fitted.images)}:"
        f" their ECE was {100 * fitted.ece_before:.1f} %, and is now {100 * fitted.ece_after:.1f} %"
    )


def _recipes(manifest: Manifest) -> str:
    lines = []
    for name, variant in manifest.variants.items():
        made = variant.provenance
        recipe = settings_in_words(made.recipe)
        calibration = f", calibrated on {described_images(made.calibration)}" if made.calibration else ""
        lines.append(f"- **{name}**: {recipe}{calibration}; `{made.command}`")
        if made.training:
            lines += [f"  - {line}" for line in _training_facts(made.training)]
        if variant.operators:
            lines.append(
                f"  - operators: {', '.join(f'{n} {kind}' for kind, n in variant.operators.items())}"
            )
    tools = manifest.variants[manifest.default_variant].provenance.tools
    return "\n".join([*lines, f"- with {', '.join(f'{tool} {version}' for tool, version in tools.items())}"])


def _limits(manifest: Manifest) -> str:
    return (
        f"The model knows its {manifest.classes} classes and nothing else: an image of anything else still"
        " gets the likeliest of them, so look at the probability. It says what is in an image, not where or"
        " how often. Accuracy on your own photos may differ from the numbers above; measure it with"
        " `python -m service evaluate`. It is not for decisions about people, or where an error can do harm."
    )


def _preprocessing(manifest: Manifest) -> str:
    p = manifest.preprocessing
    how = f"centre {p.crop_fraction:g} of the shorter side" if p.resize is Resize.SHORTER_SIDE else "squashed"
    return f"{p.height} × {p.width} RGB, {how}, {p.filter}"
