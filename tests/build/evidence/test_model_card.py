from build.evidence.model_card import model_card
from build.evidence.reference import ClassCount, read_per_class
from build.evidence.tables import evaluation_table, pair_table, variant_table
from service.bundle.folder import Bundle
from service.bundle.manifest import ImageSet, Temperature, reference_evaluation
from tests.build.trained import TRAINING


def test_the_card_says_how_the_bundle_was_made(measured: Bundle) -> None:
    card = model_card(measured.manifest, read_per_class(measured))
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
    assert f"## Pairwise comparison\n\n{pair_table(measured.manifest)}\n\n## Class by class\n\n" in card


def test_the_card_says_how_the_network_was_trained(measured: Bundle) -> None:
    evaluation = reference_evaluation(measured.variant("ptq").evaluations)
    assert evaluation is not None
    images = evaluation.dataset
    training = TRAINING.model_copy(update={"images": (images,)})
    card = model_card(measured.manifest.model_copy(update={"training": training}), ())
    assert "Fine-tuned with distillation from `small.h5`" in card
    assert "- 7 steps of 16, learning rate 1e-05, seed 0, 2 seconds" in card
    assert "16 images of evaluation" in card
    assert "kl_nats_before 0.1000" in card
    assert "temperature" not in card


def test_the_card_states_the_temperature_of_the_logits(measured: Bundle) -> None:
    images = ImageSet(name="val", images=296, sha256="a" * 64)
    fitted = Temperature(value=0.5734, images=images, ece_before=0.2982, ece_after=0.0213)
    training = TRAINING.model_copy(update={"temperature": fitted})
    card = model_card(measured.manifest.model_copy(update={"training": training}), ())
    assert (
        f"- logits divided by a temperature of 0.5734, fitted on 296 images of val (SHA-256 {16 * 'a'}…):"
        " their ECE was 29.8 %, and is now 2.1 %"
    ) in card


def test_the_card_of_an_unevaluated_bundle_has_no_accuracy_sections(small: Bundle) -> None:
    card = model_card(small.manifest, ())
    assert "## Pairwise" not in card
    assert "## Class by class" not in card


def class_by_class(bundle: Bundle, *counts: ClassCount) -> str:
    """The section of the card with that name."""
    return model_card(bundle.manifest, counts).partition("## Class by class\n\n")[2].partition("\n\n## ")[0]


def count(label: str, images: int, fp32: int, ptq: int) -> ClassCount:
    return ClassCount(label, images, {"fp32": fp32, "ptq": ptq})


def test_the_classes_that_lose_most_are_listed(small: Bundle) -> None:
    section = class_by_class(
        small,
        count("cup", 50, 49, 47),
        count("dog", 50, 48, 41),
        count("hat", 48, 40, 45),
        count("cat", 40, 9, 8),
    )
    assert (
        "4 classes in the reference evaluation, with a median of 49 per class. In 2 classes `ptq` gets"
        in section
    )
    assert section.splitlines()[-2:] == ["| dog | 50 | 48 | 41 |", "| cup | 50 | 49 | 47 |"]
    assert "too few" not in section


def test_at_most_ten_classes_are_listed(small: Bundle) -> None:
    section = class_by_class(small, *(count(f"c{lost}", 50, 40, 40 - lost) for lost in range(14)))
    assert "In 12 classes" in section
    assert [line.split()[1] for line in section.splitlines() if line.startswith("| c")][1:] == [
        f"c{lost}" for lost in range(13, 3, -1)
    ]


def test_the_card_says_if_a_class_has_too_few_images(small: Bundle) -> None:
    section = class_by_class(small, count("cup", 1, 1, 0), count("dog", 1, 1, 1))
    assert section.endswith("with a median of 1 per class. That is too few to judge a variant on one class.")
    section = class_by_class(small, count("cup", 2, 2, 1), count("dog", 1, 1, 1))
    assert section.endswith(
        "That is too few to judge a variant on one class. In no class does `ptq` get 2 fewer right than"
        " `fp32`."
    )


def test_without_fp32_there_is_no_class_by_class_section(small: Bundle) -> None:
    counts = [ClassCount("cup", 50, {"ptq": 40}), ClassCount("dog", 50, {"ptq": 10})]
    assert "## Class by class" not in model_card(small.manifest, counts)
