import re
from pathlib import Path

import numpy as np
import pytest

from build.evidence.significance import mcnemar_p, p_in_digits
from build.evidence.tables import evaluation_table, pair_table, settings_in_words, variant_table
from service.bundle.folder import Bundle
from service.bundle.manifest import Evaluation, Proportion, comparison_with, reference_evaluation
from service.images.pixels import Crop
from service.inference.classifier import Classifier
from service.measuring.evaluation import answer, compare
from service.measuring.labelled import labelled_images
from tests.build.evidence.markdown import rows
from tests.packed import packed_copy


def assert_share(cell: str, share: Proportion) -> None:
    ratio, lower, upper = map(float, re.findall(r"[\d.]+", cell))
    assert ratio == round(100 * share.ratio, 2)
    assert (lower, upper) == (round(100 * share.lower, 1), round(100 * share.upper, 1))


def reference(evaluations: tuple[Evaluation, ...]) -> Evaluation:
    evaluation = reference_evaluation(evaluations)
    assert evaluation is not None
    return evaluation


def test_the_table_has_the_numbers_of_the_manifest(measured: Bundle) -> None:
    table = rows(variant_table(measured.manifest))
    assert list(table) == ["fp32", "ptq", "start"]
    base = measured.variant("fp32").latency
    for name, variant in measured.manifest.variants.items():
        precision, size, top1, top5, ece, agreement, kl, discordant, p50, speed = table[name]
        evaluation, latency = reference(variant.evaluations), variant.latency
        assert latency is not None
        assert base is not None
        assert precision == variant.precision
        assert size == f"{variant.bytes / 1e6:.1f}"
        assert_share(top1, evaluation.top1)
        assert top5 == ""
        assert ece == f"{100 * evaluation.ece:.2f}"
        assert p50 == f"{1000 * latency.p50_seconds:.1f}"
        assert speed == f"{base.p50_seconds / latency.p50_seconds:.2f} ×"
        comparison = comparison_with(evaluation, "fp32")
        if name == "fp32":
            assert comparison is None
            assert (agreement, kl, discordant) == ("", "", "")
        else:
            assert comparison is not None
            lost, won = comparison.lost, comparison.won
            assert agreement == f"{100 * comparison.agreement.ratio:.1f}"
            assert kl == f"{comparison.kl_nats:.4f} ± {comparison.kl_nats_error:.4f}"
            assert discordant == f"{lost} / {won} ({p_in_digits(mcnemar_p(lost, won))})"


def test_a_baseline_has_accuracy_and_no_latency(measured: Bundle) -> None:
    start = measured.manifest.baselines["start"]
    precision, size, top1, _, _, agreement, _, _, p50, speed = rows(variant_table(measured.manifest))["start"]
    assert (precision, p50, speed) == ("float32", "", "")
    assert size == f"{start.bytes / 1e6:.1f}"
    assert_share(top1, reference(start.evaluations).top1)
    assert agreement == "100.0"


def test_the_default_is_bold_and_baselines_are_italic(measured: Bundle) -> None:
    table = variant_table(measured.manifest)
    assert "\n| **ptq** |" in table
    assert "\n| fp32 |" in table
    assert "\n| *start* |" in table
    assert "*start*, not in the bundle: the weights that training started from" in table


def test_the_notes_name_the_images_and_the_machine(measured: Bundle) -> None:
    notes = variant_table(measured.manifest)
    dataset = reference(measured.variant("ptq").evaluations).dataset
    assert f"Accuracy on 16 images of evaluation (SHA-256 {dataset.sha256[:16]}…), crop `bundle`" in notes
    latency = measured.variant("ptq").latency
    assert latency is not None
    assert f"on one thread of {latency.machine}, by {latency.runtime} with xnnpack, 10 runs" in notes


def test_the_notes_name_fp32_if_it_is_a_baseline(measured: Bundle) -> None:
    fp32 = measured.manifest.baselines["start"]
    alone = {"ptq": measured.variant("ptq")}
    for baselines, is_named in (({"fp32": fp32}, True), ({}, False)):
        manifest = measured.manifest.model_copy(update={"variants": alone, "baselines": baselines})
        assert ("are relative to `fp32` on the same images" in variant_table(manifest)) == is_named


def test_a_bundle_that_was_not_measured_has_empty_cells(small: Bundle) -> None:
    table = variant_table(small.manifest)
    assert rows(table)["ptq"] == ["int8", f"{small.variant('ptq').bytes / 1e6:.1f}", *[""] * 8]
    assert "Accuracy on" not in table
    assert "ECE: " not in table
    assert "Latency is" not in table


def test_a_packed_variant_has_both_sizes(small: Bundle, tmp_path: Path) -> None:
    bundle = packed_copy(small, tmp_path / "packed", "ptq")
    variant = bundle.variant("ptq")
    table = variant_table(bundle.manifest)
    assert variant.wire is not None
    size = f"{variant.bytes / 1e6:.1f} ({variant.wire.bytes / 1e6:.1f} packed)"
    assert rows(table)["ptq"][1] == size
    assert "packed" not in rows(table)["fp32"][1]
    assert "Packed: the size in the bundle, compressed by Zstandard." in table
    assert "acked" not in variant_table(small.manifest)


def test_every_pair_is_compared_once(measured: Bundle, evaluation: Path) -> None:
    table = pair_table(measured.manifest)
    pairs = [line.strip("| ").split(" | ") for line in table.splitlines()[2:5]]
    assert [pair[:2] for pair in pairs] == [["ptq", "fp32"], ["start", "fp32"], ["start", "ptq"]]
    assert "of 3 pairs of equally good variants" in table
    # Nothing was trained, so the answers of start are those of fp32.
    images = labelled_images(evaluation, measured.classes)
    labels = np.array([image.index for image in images])
    answers = {
        name: answer(Classifier(measured, variant), images, Crop.BUNDLE)
        for name, variant in (("fp32", "fp32"), ("ptq", "ptq"), ("start", "fp32"))
    }
    for name, against, agreement, kl, discordant, p in pairs:
        expected = compare(against, answers[against], answers[name], labels)
        assert_share(agreement, expected.agreement)
        mean, error = map(float, kl.split(" ± "))
        assert mean == pytest.approx(expected.kl_nats, abs=1e-4)
        assert error == pytest.approx(expected.kl_nats_error, abs=1e-4)
        assert discordant == f"{expected.lost} / {expected.won}"
        assert p == p_in_digits(mcnemar_p(expected.lost, expected.won))


def test_variants_not_evaluated_together_are_not_compared(measured: Bundle, small: Bundle) -> None:
    assert pair_table(small.manifest) == ""
    alone = reference(measured.variant("ptq").evaluations).model_copy(update={"comparisons": ()})
    ptq = measured.variant("ptq").model_copy(update={"evaluations": (alone,)})
    manifest = measured.manifest.model_copy(
        update={"variants": {**measured.manifest.variants, "ptq": ptq}, "baselines": {}}
    )
    assert pair_table(manifest) == ""


def test_a_small_p_value_is_not_shown_as_zero(measured: Bundle) -> None:
    ptq = measured.variant("ptq")
    evaluation = reference(ptq.evaluations)
    comparison = comparison_with(evaluation, "fp32")
    assert comparison is not None
    significant = comparison.model_copy(update={"lost": 40, "won": 1})
    changed = ptq.model_copy(
        update={"evaluations": (evaluation.model_copy(update={"comparisons": (significant,)}),)}
    )
    manifest = measured.manifest.model_copy(
        update={"variants": {**measured.manifest.variants, "ptq": changed}}
    )
    assert "| 40 / 1 (< 0.001) |" in variant_table(manifest)
    assert "| 40 / 1 | < 0.001 |" in pair_table(manifest)


def test_every_evaluation_is_listed(measured: Bundle) -> None:
    table = rows(evaluation_table(measured.manifest))
    assert list(table) == ["fp32", "ptq", "start"]
    images, crop, seen, top1, top5, ece = table["ptq"]
    evaluation = reference(measured.variant("ptq").evaluations)
    assert (images, crop, seen) == ("16 of evaluation", "bundle", "unknown")
    assert ece == f"{100 * evaluation.ece:.2f}"
    assert_share(top1, evaluation.top1)
    assert top5 == ""


def test_images_seen_in_training_are_marked(measured: Bundle) -> None:
    variant = measured.variant("ptq")
    seen = reference(variant.evaluations).model_copy(update={"seen_images": 3, "reference": False})
    changed = variant.model_copy(update={"evaluations": (seen,)})
    manifest = measured.manifest.model_copy(
        update={"variants": {**measured.manifest.variants, "ptq": changed}}
    )
    assert rows(evaluation_table(manifest))["ptq"][2] == "**3**"
    assert rows(variant_table(manifest))["ptq"][2:5] == ["", "", ""]


def test_many_settings_of_one_table_are_shown_as_their_number() -> None:
    steps = {f"weight_steps.layer{n}": 0.1 * n for n in range(9)}
    assert settings_in_words({"name": "a", **steps, "weight_bits.*": 4, "wire": "zstd"}) == (
        "name = a, weight_bits.* = 4, wire = zstd, 9 weight_steps"
    )
