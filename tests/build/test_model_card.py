import re

from build.model_card import evaluation_table, model_card, variant_table
from build.significance import mcnemar_p
from service.bundle import Bundle
from service.manifest import Evaluation, Proportion, reference_evaluation
from tests.build.test_weights import TRAINING


def rows(table: str) -> dict[str, list[str]]:
    """The cells of a Markdown table by the name in the first, without emphasis."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {row[0].strip("*"): row[1:] for row in cells}


def assert_share(cell: str, share: Proportion) -> None:
    ratio, lower, upper = map(float, re.findall(r"[\d.]+", cell))
    assert ratio == round(100 * share.ratio, 2)
    assert (lower, upper) == (round(100 * share.lower, 1), round(100 * share.upper, 1))


def reference(evaluations: tuple[Evaluation, ...]) -> Evaluation:
    evaluation = reference_evaluation(evaluations)
    assert evaluation is not None
    return evaluation


def test_the_tables_numbers_are_the_manifests(measured: Bundle) -> None:
    table = rows(variant_table(measured.manifest))
    assert list(table) == ["fp32", "ptq", "start"]
    base = measured.variant("fp32").latency
    for name, variant in measured.manifest.variants.items():
        precision, size, top1, top5, agreement, kl, discordant, p50, speed = table[name]
        evaluation, latency = reference(variant.evaluations), variant.latency
        assert latency is not None
        assert base is not None
        assert precision == variant.precision
        assert size == f"{variant.bytes / 1e6:.1f}"
        assert_share(top1, evaluation.top1)
        assert_share(top5, evaluation.top5)
        assert p50 == f"{1000 * latency.p50_seconds:.1f}"
        assert speed == f"{base.p50_seconds / latency.p50_seconds:.2f} ×"
        if evaluation.comparison is None:
            assert (agreement, kl, discordant) == ("", "", "")
        else:
            lost, won = evaluation.comparison.lost, evaluation.comparison.won
            assert agreement == f"{100 * evaluation.comparison.agreement.ratio:.1f}"
            assert kl == f"{evaluation.comparison.kl_nats:.4f}"
            assert discordant == f"{lost} / {won} ({mcnemar_p(lost, won):.2f})"
    assert reference(measured.variant("ptq").evaluations).comparison is not None


def test_a_baseline_has_accuracy_and_no_latency(measured: Bundle) -> None:
    start = measured.manifest.baselines["start"]
    precision, size, top1, _, agreement, _, _, p50, speed = rows(variant_table(measured.manifest))["start"]
    assert (precision, p50, speed) == ("", "", "")
    assert size == f"{start.bytes / 1e6:.1f}"
    assert_share(top1, reference(start.evaluations).top1)
    assert agreement == "100.0"


def test_the_default_is_bold_and_what_is_not_in_the_bundle_is_slanted(measured: Bundle) -> None:
    table = variant_table(measured.manifest)
    assert "\n| **ptq** |" in table
    assert "\n| fp32 |" in table
    assert "\n| *start* |" in table
    assert "*start*, not in the bundle: the weights that training started from" in table


def test_the_tables_notes_say_what_it_was_measured_on(measured: Bundle) -> None:
    notes = variant_table(measured.manifest)
    dataset = reference(measured.variant("ptq").evaluations).dataset
    assert f"Accuracy on 16 images of evaluation (SHA-256 {dataset.sha256[:16]}…), crop `bundle`" in notes
    latency = measured.variant("ptq").latency
    assert latency is not None
    assert f"on one thread of {latency.machine}, by {latency.runtime} with xnnpack, 10 runs" in notes


def test_a_bundle_that_was_not_measured_has_empty_cells(small: Bundle) -> None:
    table = variant_table(small.manifest)
    assert rows(table)["ptq"] == ["int8", f"{small.variant('ptq').bytes / 1e6:.1f}", *[""] * 7]
    assert "Accuracy on" not in table
    assert "Latency is" not in table


def test_every_evaluation_is_listed(measured: Bundle) -> None:
    table = rows(evaluation_table(measured.manifest))
    assert list(table) == ["fp32", "ptq", "start"]
    images, crop, seen, top1, top5 = table["ptq"]
    evaluation = reference(measured.variant("ptq").evaluations)
    assert (images, crop, seen) == ("16 of evaluation", "bundle", "0")
    assert_share(top1, evaluation.top1)
    assert_share(top5, evaluation.top5)


def test_images_seen_in_training_are_marked(measured: Bundle) -> None:
    variant = measured.variant("ptq")
    seen = reference(variant.evaluations).model_copy(update={"seen_images": 3, "reference": False})
    changed = variant.model_copy(update={"evaluations": (seen,)})
    manifest = measured.manifest.model_copy(
        update={"variants": {**measured.manifest.variants, "ptq": changed}}
    )
    assert rows(evaluation_table(manifest))["ptq"][2] == "**3**"
    assert rows(variant_table(manifest))["ptq"][2:4] == ["", ""]


def test_the_card_says_how_the_bundle_came_about(measured: Bundle) -> None:
    card = model_card(measured.manifest)
    assert card.startswith("# small\n\nEfficientNetV2B0, 4 classes, as TFLite variants")
    assert "Input: 64 × 64 RGB, centre 0.875 of the shorter side, bicubic." in card
    assert "The network was not trained by edgewise." in card
    calibration = measured.variant("ptq").provenance.calibration
    assert calibration is not None
    assert f"calibrated on 16 images of calibration (SHA-256 {calibration.sha256[:16]}…)" in card
    assert "weights = int8-per-channel" in card
    assert "`python -m build quantize`" in card
    assert variant_table(measured.manifest) in card
    assert evaluation_table(measured.manifest) in card


def test_the_card_says_how_the_network_was_trained(measured: Bundle) -> None:
    images = reference(measured.variant("ptq").evaluations).dataset
    training = TRAINING.model_copy(update={"images": (images,)})
    card = model_card(measured.manifest.model_copy(update={"training": training}))
    assert "Fine-tuned with distillation from `small.h5`" in card
    assert "- 7 steps of 16, learning rate 1e-05, seed 0, 2 seconds" in card
    assert "16 images of evaluation" in card
    assert "kl_nats_before 0.1000" in card
