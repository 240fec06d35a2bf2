"""Markdown tables of a bundle's numbers, from its manifest."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

from build.evidence.significance import mcnemar_p, p_in_digits
from service.bundle.manifest import (
    BASELINE,
    IMPORTED,
    Baseline,
    Comparison,
    Evaluation,
    ImageSet,
    Latency,
    Manifest,
    Provenance,
    Variant,
    comparison_with,
    reference_evaluation,
)
from service.results.words import accuracy_cells, divergence_in_words, percent

_VARIANT_HEADER = (
    "| variant | precision | MB | top-1 % (95 %) | top-5 % (95 %) | ECE % | agreement % | KL nats"
    " | lost / won (p) | p50 ms | speed |\n"
    "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)
_PAIR_HEADER = (
    "| variant | against | agreement % (95 %) | KL nats | lost / won | p |\n|---|---|--:|--:|--:|--:|"
)
# A table in a recipe's settings with more keys is given by their number.
_MOST_KEYS = 8
_EVALUATION_HEADER = (
    "| variant | images | crop | seen in training | top-1 % (95 %) | top-5 % (95 %) | ECE % |\n"
    "|---|---|---|--:|--:|--:|--:|"
)


def variant_table(manifest: Manifest) -> str:
    """Return every variant and baseline with its reference evaluation and latency, and notes on these."""
    rows = [_variant_row(manifest, name, variant) for name, variant in manifest.variants.items()]
    rows += [_baseline_row(name, one, manifest.classes) for name, one in manifest.baselines.items()]
    return "\n".join([_VARIANT_HEADER, *rows, "", _table_notes(manifest)])


def pair_table(manifest: Manifest) -> str:
    """Return the comparison of every two variants and baselines in the reference evaluation.

    It is empty if no two were evaluated together.
    """
    evaluated = {name: reference_evaluation(e) for name, e in _evaluated(manifest).items()}
    references = {name: evaluation for name, evaluation in evaluated.items() if evaluation}
    rows = []
    for earlier, later in combinations(references, 2):
        if comparison := comparison_with(references[later], earlier):
            rows.append(_pair_row(later, comparison))
    if not rows:
        return ""
    note = (
        "Agreement: same top-1. KL: mean of KL(against ‖ variant) ± its standard error. Lost: images that the"
        " variant gets wrong and the other right; won: the reverse. p is from McNemar's exact test"
    )
    if len(rows) > 1:
        note += (
            f", for each pair alone: of {len(rows)} pairs of equally good variants, up to one in twenty is"
            " below 0.05 by chance"
        )
    return "\n".join([_PAIR_HEADER, *rows, "", f"{note}."])


def evaluation_table(manifest: Manifest) -> str:
    """Return every evaluation of every variant and baseline."""
    lines = [_EVALUATION_HEADER]
    provenances = _provenances(manifest)
    for name, evaluations in _evaluated(manifest).items():
        none = "0" if provenances[name].knows_its_images else "unknown"
        for evaluation in evaluations:
            seen = f"**{evaluation.seen_images}**" if evaluation.seen_images else none
            cells = [
                name,
                f"{evaluation.dataset.images} of {evaluation.dataset.name}",
                evaluation.crop,
                seen,
                *accuracy_cells(evaluation, manifest.classes),
            ]
            lines.append(row(cells))
    note = (
        "On images seen in training, the numbers say how well those were learned, not how well new ones are"
        " classified."
    )
    return "\n".join([*lines, "", note])


def described_images(images: ImageSet) -> str:
    """Describe a set of images, with the first digits of its hash."""
    return f"{images.images} images of {images.name} (SHA-256 {images.sha256[:16]}…)"


def settings_in_words(settings: Mapping[str, object]) -> str:
    """Describe a recipe's settings; a table with many keys, like all layers' steps, by their number."""
    keys = Counter(key.partition(".")[0] for key in settings)
    shown = [
        f"{key} = {value}" for key, value in settings.items() if keys[key.partition(".")[0]] <= _MOST_KEYS
    ]
    return ", ".join([*shown, *(f"{count} {table}" for table, count in keys.items() if count > _MOST_KEYS)])


def _evaluated(manifest: Manifest) -> Mapping[str, Sequence[Evaluation]]:
    variants = {name: variant.evaluations for name, variant in manifest.variants.items()}
    return variants | {name: baseline.evaluations for name, baseline in manifest.baselines.items()}


def _provenances(manifest: Manifest) -> Mapping[str, Provenance]:
    """Return how every variant and baseline was made.

    The weights that training started from don't say. No more is known of them than of what came of them.
    """
    default = manifest.variants[manifest.default_variant].provenance
    variants = {name: variant.provenance for name, variant in manifest.variants.items()}
    return variants | {name: baseline.provenance or default for name, baseline in manifest.baselines.items()}


def _variant_row(manifest: Manifest, name: str, variant: Variant) -> str:
    base = manifest.variants[BASELINE].latency if BASELINE in manifest.variants else None
    shown = f"**{name}**" if name == manifest.default_variant else name
    numbers = _numbers(reference_evaluation(variant.evaluations), manifest.classes)
    size = _size(variant.bytes, variant.wire.bytes if variant.wire else None)
    return row([shown, variant.precision, size, *numbers, *_speed(variant.latency, base)])


def _baseline_row(name: str, baseline: Baseline, classes: int) -> str:
    numbers = _numbers(reference_evaluation(baseline.evaluations), classes)
    size = _size(baseline.bytes, baseline.wire_bytes)
    return row([f"*{name}*", baseline.precision, size, *numbers, "", ""])


def _pair_row(name: str, comparison: Comparison) -> str:
    return row(
        [
            name,
            comparison.against,
            percent(comparison.agreement),
            divergence_in_words(comparison),
            f"{comparison.lost} / {comparison.won}",
            p_in_digits(mcnemar_p(comparison.lost, comparison.won)),
        ]
    )


def row(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def lost_and_won(comparison: Comparison) -> str:
    """Return how many images were lost and won, and McNemar's p."""
    lost, won = comparison.lost, comparison.won
    return f"{lost} / {won} ({p_in_digits(mcnemar_p(lost, won))})"


def _numbers(evaluation: Evaluation | None, classes: int) -> list[str]:
    if evaluation is None:
        return [""] * 6
    comparison = comparison_with(evaluation, BASELINE)
    if comparison is None:
        return [*accuracy_cells(evaluation, classes), "", "", ""]
    return [
        *accuracy_cells(evaluation, classes),
        f"{100 * comparison.agreement.ratio:.1f}",
        divergence_in_words(comparison),
        lost_and_won(comparison),
    ]


def _speed(latency: Latency | None, base: Latency | None) -> list[str]:
    if latency is None:
        return ["", ""]
    speed = f"{base.p50_seconds / latency.p50_seconds:.2f} ×" if base else ""
    return [f"{latency.p50_seconds * 1e3:.1f}", speed]


def _table_notes(manifest: Manifest) -> str:
    default = manifest.variants[manifest.default_variant]
    evaluation, latency = reference_evaluation(default.evaluations), default.latency
    notes = ["Bold: the default."]
    wires = [variant.wire for variant in manifest.variants.values()]
    if any(wires) or any(baseline.wire_bytes for baseline in manifest.baselines.values()):
        notes[0] += " Packed: the size in the bundle, compressed by Zstandard."
    if evaluation:
        notes[0] += " ECE: expected calibration error of the top-1 probability, over 15 bins."
    if BASELINE in {*manifest.variants, *manifest.baselines}:
        notes.append(
            "Agreement (same top-1), mean KL (± its standard error) and the images lost and won are relative"
            f" to `{BASELINE}` on the same images; p is from McNemar's exact test."
        )
    if evaluation:
        notes.append(
            f"Accuracy on {described_images(evaluation.dataset)}, crop `{evaluation.crop}`;"
            f" {_seen(manifest)}."
        )
    if latency:
        notes.append(
            f"Latency is that of one inference without decoding, on one thread of {latency.machine}, by"
            f" {latency.runtime} with {latency.delegate}, {latency.runs} runs of each variant in turn:"
            " compare the ratios."
        )
    notes += [f"*{name}*, not in the bundle: {b.description}." for name, b in manifest.baselines.items()]
    return "\n".join(notes)


def _seen(manifest: Manifest) -> str:
    """Return what is known about whether the network has seen the images of the reference evaluation."""
    provenances = _provenances(manifest)
    if unknown := [f"`{name}`" for name, made in provenances.items() if not made.knows_its_images]:
        names = ", ".join(unknown)
        return f"nothing is known about the images that {names} may have been trained or calibrated on"
    if any(IMPORTED in made.recipe for made in provenances.values()):
        return "the network is not known to have been trained or calibrated on any of them"
    return "edgewise neither trained nor calibrated the network on any of them"


def _size(whole: int, packed: int | None) -> str:
    """Return a size in MB, followed by the packed size if there is one."""
    return f"{whole / 1e6:.1f}" + (f" ({packed / 1e6:.1f} packed)" if packed else "")
