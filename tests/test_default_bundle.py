"""The default bundle: it is complete, matches its documents, and its numbers hold on this machine."""

from pathlib import Path

import pytest

from build.assembly.operators import count_operators
from build.evidence.model_card import model_card
from build.evidence.reference import read_per_class
from build.evidence.report import BEGIN, END
from build.evidence.tables import variant_table
from service.bundle.folder import Bundle, verify
from service.bundle.manifest import MODEL_CARD, Evaluation, comparison_with, reference_evaluation
from service.bundle.reference import read_reference
from service.images.pixels import Crop
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate
from service.measuring.evaluation import Candidate, evaluate
from service.measuring.labelled import labelled_images
from tests.delegates import by_each_built_in

ROOT = Path(__file__).parents[1]


def test_the_bundle_is_complete(default_bundle: Bundle) -> None:
    verify(default_bundle)
    assert list(default_bundle.manifest.variants) == ["fp32", "fp16", "dynamic", "ptq", "qat", "small"]
    assert default_bundle.manifest.default_variant == "qat"
    assert default_bundle.labels[281] == "tabby, tabby cat"
    assert default_bundle.class_ids is not None
    assert default_bundle.class_ids[281] == "n02123045"


@by_each_built_in
def test_the_golden_vectors_hold_on_this_machine(default_bundle: Bundle, delegate: Delegate) -> None:
    for variant in default_bundle.manifest.variants:
        Classifier(default_bundle, variant, delegate)


def test_the_readme_and_the_model_card_match_the_manifest(default_bundle: Bundle) -> None:
    shown = (ROOT / "README.md").read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert shown.strip() == variant_table(default_bundle.manifest)
    card = (default_bundle.path / MODEL_CARD).read_text("utf-8")
    assert card == model_card(default_bundle.manifest, read_per_class(default_bundle))


def test_the_manifest_records_the_images_of_the_training(default_bundle: Bundle) -> None:
    training = default_bundle.manifest.training
    assert training is not None
    assert {images.name for images in training.images} == {"imagenet-calibration", "grocery/train"}
    assert len(default_bundle.seen_images) == sum(images.images for images in training.images)


@pytest.fixture(scope="module")
def measured(default_bundle: Bundle, shared: Path) -> dict[str, Evaluation]:
    candidates = {name: Candidate(default_bundle, name) for name in default_bundle.manifest.variants}
    folder = shared / "images" / "imagenet-val"
    images = labelled_images(folder, default_bundle.classes)
    return evaluate(candidates, images, Crop.NONE, folder.name).evaluations


def test_the_numbers_of_the_manifest_hold_on_the_same_images(
    default_bundle: Bundle, measured: dict[str, Evaluation]
) -> None:
    for name, evaluation in measured.items():
        recorded = reference_evaluation(default_bundle.variant(name).evaluations)
        assert recorded is not None
        assert recorded.dataset == evaluation.dataset
        # Another processor may round ties differently.
        assert abs(recorded.top1.count - evaluation.top1.count) <= 3
        assert abs(recorded.top5.count - evaluation.top5.count) <= 3
        assert recorded.ece == pytest.approx(evaluation.ece, abs=0.01)


def test_the_drift_reference_matches_the_reference_evaluation(default_bundle: Bundle) -> None:
    reference = read_reference(default_bundle)
    assert reference is not None
    assert list(reference.variants) == list(default_bundle.manifest.variants)
    rows = read_per_class(default_bundle)
    assert sum(row.images for row in rows) == reference.dataset.images
    for name, variant in default_bundle.manifest.variants.items():
        evaluation = reference_evaluation(variant.evaluations)
        assert evaluation is not None
        assert sum(row.right[name] for row in rows) == evaluation.top1.count


def test_training_did_not_lower_the_accuracy(default_bundle: Bundle, measured: dict[str, Evaluation]) -> None:
    (start,) = default_bundle.manifest.baselines["start"].evaluations
    assert start.dataset == measured["fp32"].dataset
    assert measured["fp32"].top1.count >= start.top1.count - 6


@pytest.mark.parametrize(
    ("name", "kl_nats", "agreement"), [("fp16", 1e-4, 0.995), ("dynamic", 0.008, 0.96), ("ptq", 0.025, 0.955)]
)
def test_a_variant_stays_close_to_float(
    measured: dict[str, Evaluation], name: str, kl_nats: float, agreement: float
) -> None:
    comparison = comparison_with(measured[name], "fp32")
    assert comparison is not None
    assert comparison.kl_nats <= kl_nats
    assert comparison.agreement.ratio >= agreement
    assert comparison.lost - comparison.won <= 0.008 * measured[name].dataset.images


def test_quantization_aware_training_lowers_the_divergence(measured: dict[str, Evaluation]) -> None:
    trained, calibrated = (comparison_with(measured[name], "fp32") for name in ("qat", "ptq"))
    assert trained is not None
    assert calibrated is not None
    assert trained.kl_nats <= 0.010
    assert trained.kl_nats < 0.6 * calibrated.kl_nats
    assert trained.agreement.ratio >= 0.965
    assert trained.lost - trained.won <= 6


def test_the_plain_converter_diverges_from_float(default_bundle: Bundle) -> None:
    naive = reference_evaluation(default_bundle.manifest.baselines["naive"].evaluations)
    assert naive is not None
    comparison = comparison_with(naive, "fp32")
    assert comparison is not None
    assert comparison.kl_nats > 0.05


@pytest.mark.parametrize("name", ["ptq", "qat"])
def test_int8_variants_compute_in_int8_throughout(default_bundle: Bundle, name: str) -> None:
    operators = count_operators(default_bundle.variant_path(name).read_bytes())
    assert operators == default_bundle.variant(name).operators
    assert "DEQUANTIZE" not in operators
    assert operators["QUANTIZE"] == 1


def test_the_manifest_records_how_qat_was_trained(default_bundle: Bundle) -> None:
    training = default_bundle.variant("qat").provenance.training
    assert training is not None
    assert training.method == "quantization-aware"
    assert training.losses["kl_nats_after"] < 0.5 * training.losses["kl_nats_before"]
