import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from build.data import sample
from build.evaluation import START, record_evaluation
from service.bundle import Bundle, load_bundle, verify
from service.errors import DatasetError
from service.inference.evaluation import Candidate, evaluate
from service.inference.image import Crop
from service.inference.labelled import labelled_images
from service.manifest import reference_evaluation
from tests.build.conftest import CLASSES, REPRESENTATIVE


def record(bundle: Bundle, folder: Path, crop: Crop, *, allow_seen: bool = False) -> Bundle:
    images = labelled_images(folder, bundle.classes)
    return record_evaluation(bundle, images, folder.name, crop, allow_seen=allow_seen)


def test_every_variant_is_evaluated_and_the_bundle_written(copy: Bundle, evaluation: Path) -> None:
    bundle = record(copy, evaluation, Crop.BUNDLE)
    verify(bundle)
    assert load_bundle(copy.path).manifest == bundle.manifest
    images = labelled_images(evaluation, bundle.classes)
    candidates = {name: Candidate(copy, name) for name in ("fp32", "ptq")}
    expected = evaluate(candidates, images, Crop.BUNDLE, "evaluation")
    for name, variant in bundle.manifest.variants.items():
        assert variant.evaluations == (expected[name].model_copy(update={"reference": True}),)
        assert variant.model_copy(update={"evaluations": ()}) == copy.manifest.variants[name]
    assert expected["fp32"].dataset.images == 4 * len(CLASSES)
    assert expected["ptq"].comparison is not None


def test_the_first_on_unseen_images_is_the_reference(
    copy: Bundle, evaluation: Path, calibration: Path, make_folder: Callable[[str, int, int], Path]
) -> None:
    bundle = record(copy, calibration, Crop.BUNDLE, allow_seen=True)
    bundle = record(bundle, evaluation, Crop.BUNDLE)
    bundle = record(bundle, make_folder("other", 5, 1), Crop.BUNDLE)
    for variant in bundle.manifest.variants.values():
        seen = [(e.dataset.name, e.seen_images, e.reference) for e in variant.evaluations]
        assert seen == [
            ("calibration", REPRESENTATIVE, False),
            ("evaluation", 0, True),
            ("other", 0, False),
        ]
        reference = reference_evaluation(variant.evaluations)
        assert reference is not None
        assert reference.dataset.name == "evaluation"


def test_the_same_images_with_the_same_crop_are_recorded_once(
    copy: Bundle, evaluation: Path, tmp_path: Path
) -> None:
    bundle = record(copy, evaluation, Crop.BUNDLE)
    bundle = record(bundle, evaluation, Crop.NONE)
    moved = tmp_path / "moved"
    shutil.copytree(evaluation, moved)
    again = record(bundle, moved, Crop.BUNDLE)
    for variant in again.manifest.variants.values():
        kept = [(e.dataset.name, e.crop, e.reference) for e in variant.evaluations]
        assert kept == [("evaluation", "none", False), ("moved", "bundle", True)]


def test_an_image_that_was_calibrated_on_is_found_under_another_name(
    copy: Bundle, evaluation: Path, calibration: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(evaluation, images)
    seen = sample(calibration, REPRESENTATIVE).photos[0]
    hidden = images / "coffee" / "holiday.jpeg"
    shutil.copy(seen.path, hidden)
    before = (copy.path / "manifest.json").read_bytes()
    with pytest.raises(DatasetError, match=r"1 of the 17 images .*coffee/holiday\.jpeg"):
        record(copy, images, Crop.BUNDLE)
    assert (copy.path / "manifest.json").read_bytes() == before
    bundle = record(copy, images, Crop.BUNDLE, allow_seen=True)
    for variant in bundle.manifest.variants.values():
        (taken,) = variant.evaluations
        assert (taken.seen_images, taken.dataset.images, taken.reference) == (1, 17, False)


def test_the_weights_before_training_are_a_baseline(measured: Bundle, small: Bundle) -> None:
    (baseline,) = measured.manifest.baselines.values()
    assert list(measured.manifest.baselines) == [START]
    assert baseline.bytes == small.variant("fp32").bytes
    (evaluation,) = baseline.evaluations
    assert evaluation.reference
    # Nothing was trained: the baseline is fp32 once more.
    fp32 = measured.variant("fp32").evaluations[0]
    assert (evaluation.top1, evaluation.top5, evaluation.dataset) == (fp32.top1, fp32.top5, fp32.dataset)
    assert evaluation.comparison is not None
    assert evaluation.comparison.against == "fp32"
    assert evaluation.comparison.kl_nats == pytest.approx(0, abs=1e-9)
    assert (evaluation.comparison.lost, evaluation.comparison.won) == (0, 0)


def test_a_baseline_stays_when_the_variants_are_evaluated_again(
    measured: Bundle, evaluation: Path, tmp_path: Path
) -> None:
    shutil.copytree(measured.path, tmp_path / "small")
    again = record(load_bundle(tmp_path / "small"), evaluation, Crop.NONE)
    assert again.manifest.baselines == measured.manifest.baselines
    assert [e.crop for e in again.variant("ptq").evaluations] == ["bundle", "none"]
