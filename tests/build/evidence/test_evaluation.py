import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from build.bundle_writing import bundle_files, write_bundle
from build.errors import BuildError
from build.evidence.evaluation import START, reference_in_words
from build.evidence.reference import read_per_class
from build.evidence.tables import pair_table, variant_table
from build.photos.data import sample
from service.bundle.folder import Bundle, load_bundle, sha256_of, verify
from service.bundle.manifest import (
    LABELS,
    PER_CLASS,
    REFERENCE,
    SEEN_IMAGES,
    Filter,
    comparison_with,
    reference_evaluation,
)
from service.bundle.reference import read_reference
from service.errors import DatasetError
from service.images.pixels import Crop
from service.measuring.evaluation import Candidate, evaluate
from service.measuring.labelled import labelled_images
from tests.build.assembly.conftest import imported as import_files
from tests.build.conftest import CLASSES, REPRESENTATIVE, record
from tests.build.evidence.markdown import rows


def test_every_variant_is_evaluated_and_the_bundle_written(copy: Bundle, evaluation: Path) -> None:
    bundle = record(copy, evaluation, Crop.BUNDLE)
    verify(bundle)
    assert load_bundle(copy.path).manifest == bundle.manifest
    images = labelled_images(evaluation, bundle.classes)
    candidates = {name: Candidate(copy, name) for name in ("fp32", "ptq")}
    expected = evaluate(candidates, images, Crop.BUNDLE, "evaluation").evaluations
    for name, variant in bundle.manifest.variants.items():
        assert variant.evaluations == (expected[name].model_copy(update={"reference": True}),)
        assert variant.model_copy(update={"evaluations": ()}) == copy.manifest.variants[name]
    assert expected["fp32"].dataset.images == 4 * len(CLASSES)
    assert comparison_with(expected["ptq"], "fp32") is not None


def test_the_first_evaluation_on_unseen_images_is_the_reference(
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


def test_a_later_evaluation_becomes_the_reference_on_request(
    copy: Bundle, evaluation: Path, make_folder: Callable[[str, int, int], Path]
) -> None:
    smoke = make_folder("smoke", 5, 1)
    bundle = record(copy, smoke, Crop.BUNDLE)
    assert reference_in_words(bundle.manifest).startswith("Reference: 4 images of smoke (SHA-256 ")
    bundle = record(bundle, evaluation, Crop.BUNDLE)
    words = reference_in_words(bundle.manifest)
    assert words.startswith("Reference: 4 images of smoke (SHA-256 ")
    assert words.endswith(
        "; --reference makes the evaluation on 16 images of evaluation, crop bundle, the reference instead."
    )
    bundle = record(bundle, evaluation, Crop.BUNDLE, as_reference=True)
    verify(bundle)
    assert reference_in_words(bundle.manifest).startswith("Reference: 16 images of evaluation (SHA-256 ")
    for variant in bundle.manifest.variants.values():
        kept = [(e.dataset.name, e.reference) for e in variant.evaluations]
        assert kept == [("smoke", False), ("evaluation", True)]
    reference = read_reference(bundle)
    assert reference is not None
    assert reference.dataset.images == sum(row.images for row in read_per_class(bundle)) == 16


def test_an_evaluation_on_seen_images_can_not_become_the_reference(
    copy: Bundle, evaluation: Path, calibration: Path
) -> None:
    bundle = record(copy, evaluation, Crop.BUNDLE)
    bundle = record(bundle, calibration, Crop.BUNDLE, allow_seen=True, as_reference=True)
    words = reference_in_words(bundle.manifest)
    assert words.startswith("Reference: 16 images of evaluation (SHA-256 ")
    assert "--reference" not in words


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


def test_a_renamed_calibration_image_is_found(
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
        (evaluated,) = variant.evaluations
        assert (evaluated.seen_images, evaluated.dataset.images, evaluated.reference) == (1, 17, False)


def test_the_weights_before_training_are_a_baseline(measured: Bundle, small: Bundle) -> None:
    (baseline,) = measured.manifest.baselines.values()
    assert list(measured.manifest.baselines) == [START]
    assert baseline.bytes == small.variant("fp32").bytes
    (evaluation,) = baseline.evaluations
    assert evaluation.reference
    # Nothing was trained, so the baseline equals fp32.
    fp32 = measured.variant("fp32").evaluations[0]
    assert (evaluation.top1, evaluation.top5, evaluation.dataset) == (fp32.top1, fp32.top5, fp32.dataset)
    comparison = comparison_with(evaluation, "fp32")
    assert comparison is not None
    assert comparison.kl_nats == pytest.approx(0, abs=1e-9)
    assert (comparison.lost, comparison.won) == (0, 0)
    assert baseline.sha256 == small.variant("fp32").sha256
    assert (baseline.precision, baseline.provenance) == ("float32", None)
    # The variants are compared with it too.
    assert comparison_with(measured.variant("ptq").evaluations[0], START) is not None


def test_a_baseline_stays_when_the_variants_are_evaluated_again(
    measured: Bundle, evaluation: Path, tmp_path: Path
) -> None:
    shutil.copytree(measured.path, tmp_path / "small")
    again = record(load_bundle(tmp_path / "small"), evaluation, Crop.NONE)
    assert again.manifest.baselines == measured.manifest.baselines
    assert [e.crop for e in again.variant("ptq").evaluations] == ["bundle", "none"]


def imported(bundle: Bundle, variant: str, file: Path) -> Bundle:
    """Import a variant of a bundle into a bundle of its own, under the name of the file."""
    file.parent.mkdir(parents=True)
    shutil.copy(bundle.variant_path(variant), file)
    labels = bundle.path / LABELS
    return import_files(file, file.parent / "bundle", labels=labels, filter=Filter.BICUBIC)


def test_the_variants_of_another_bundle_can_be_baselines(
    copy: Bundle, evaluation: Path, tmp_path: Path
) -> None:
    naive = imported(copy, "ptq", tmp_path / "other" / "naive.tflite")
    bundle = record(copy, evaluation, Crop.BUNDLE, baselines=[naive])
    verify(bundle)
    assert list(bundle.manifest.variants) == ["fp32", "ptq"]
    assert "naive.tflite" not in [path.name for path in bundle.path.iterdir()]
    baseline, variant = bundle.manifest.baselines["naive"], naive.variant("naive")
    assert (baseline.sha256, baseline.bytes, baseline.precision) == (
        variant.sha256,
        variant.bytes,
        variant.precision,
    )
    assert baseline.provenance == variant.provenance
    assert baseline.description == "imported = naive.tflite"
    # It is the file of ptq, so both give the same answers.
    (of_naive,), (of_ptq,) = baseline.evaluations, bundle.variant("ptq").evaluations
    assert (of_naive.top1, of_naive.ece, of_naive.reference) == (of_ptq.top1, of_ptq.ece, True)
    for evaluated, other in ((of_naive, "ptq"), (of_ptq, "naive")):
        comparison = comparison_with(evaluated, other)
        assert comparison is not None
        assert (comparison.agreement.ratio, comparison.kl_nats) == (1, 0)
    # After another evaluation it is still one baseline, with the same reference as the variants.
    again = record(bundle, evaluation, Crop.NONE, baselines=[naive])
    for evaluations in (again.manifest.baselines["naive"].evaluations, again.variant("ptq").evaluations):
        assert [(e.crop, e.reference) for e in evaluations] == [("bundle", True), ("none", False)]


def test_the_variants_of_the_bundle_itself_are_no_baselines(
    copy: Bundle, small: Bundle, evaluation: Path
) -> None:
    bundle = record(copy, evaluation, Crop.BUNDLE, baselines=[small])
    assert bundle.manifest.baselines == {}
    assert bundle.variant("ptq").evaluations


def test_a_baseline_added_later_has_the_reference_of_the_variants(
    copy: Bundle, evaluation: Path, tmp_path: Path
) -> None:
    naive = imported(copy, "ptq", tmp_path / "other" / "naive.tflite")
    bundle = record(copy, evaluation, Crop.BUNDLE)
    bundle = record(bundle, evaluation, Crop.NONE, baselines=[naive])
    assert [e.reference for e in bundle.manifest.baselines["naive"].evaluations] == [False]
    bundle = record(bundle, evaluation, Crop.BUNDLE, baselines=[naive])
    assert [e.reference for e in bundle.manifest.baselines["naive"].evaluations] == [False, True]
    assert [e.reference for e in bundle.variant("ptq").evaluations] == [False, True]


def test_a_baseline_is_described_by_its_recipe(copy: Bundle, evaluation: Path, tmp_path: Path) -> None:
    naive = imported(copy, "ptq", tmp_path / "other" / "naive.tflite")
    made = copy.variant("ptq").provenance.model_copy(update={"recipe": {"name": "naive", "activations": "x"}})
    changed = naive.variant("naive").model_copy(update={"provenance": made})
    manifest = naive.manifest.model_copy(update={"variants": {"naive": changed}})
    naive = write_bundle(naive.path, manifest, bundle_files(naive))
    bundle = record(copy, evaluation, Crop.BUNDLE, baselines=[naive])
    assert bundle.manifest.baselines["naive"].description == (
        "recipe naive: activations = x, calibrated on 16 images of calibration"
    )


def test_an_unsuitable_baseline_is_refused(
    copy: Bundle, colours: Bundle, evaluation: Path, tmp_path: Path
) -> None:
    def refused(*baselines: Bundle) -> str:
        before = (bundle.path / "manifest.json").read_bytes()
        with pytest.raises(BuildError) as caught:
            record(bundle, evaluation, Crop.BUNDLE, baselines=baselines)
        assert (bundle.path / "manifest.json").read_bytes() == before
        return str(caught.value)

    bundle = copy
    assert refused(colours) == f"{colours.path} can't be a baseline for {bundle.path}: it has other classes"
    name_is_taken = "has a variant {}, but another variant or baseline of"
    assert name_is_taken.format("ptq") in refused(imported(copy, "fp32", tmp_path / "a" / "ptq.tflite"))
    naive = imported(copy, "ptq", tmp_path / "b" / "naive.tflite")
    other = imported(copy, "fp32", tmp_path / "c" / "naive.tflite")
    assert name_is_taken.format("naive") in refused(naive, other)
    bundle = record(copy, evaluation, Crop.BUNDLE, baselines=[naive])
    assert name_is_taken.format("naive") in refused(other)


def test_the_reference_files_are_those_of_the_reference_evaluation(
    copy: Bundle, evaluation: Path, calibration: Path, make_folder: Callable[[str, int, int], Path]
) -> None:
    def files(bundle: Bundle) -> dict[str, str]:
        return {
            name: bundle.manifest.files[name]
            for name in (REFERENCE, PER_CLASS)
            if name in bundle.manifest.files
        }

    bundle = record(copy, calibration, Crop.BUNDLE, allow_seen=True)
    assert files(bundle) == {}
    bundle = record(bundle, evaluation, Crop.BUNDLE)
    first = files(bundle)
    assert list(first) == [REFERENCE, PER_CLASS]
    assert files(record(bundle, make_folder("more", 6, 1), Crop.BUNDLE)) == first


def test_only_a_baseline_that_has_seen_the_images_is_marked(
    copy: Bundle, evaluation: Path, tmp_path: Path
) -> None:
    bundle = record(copy, evaluation, Crop.BUNDLE)
    naive = imported(copy, "ptq", tmp_path / "other" / "naive.tflite")
    seen = "".join(sorted(f"{image.sha256[:16]}\n" for image in labelled_images(evaluation, copy.classes)))
    files = {**naive.manifest.files, SEEN_IMAGES: sha256_of(seen.encode())}
    manifest = naive.manifest.model_copy(update={"files": files})
    naive = write_bundle(naive.path, manifest, {**bundle_files(naive), SEEN_IMAGES: seen.encode()})
    with pytest.raises(DatasetError, match="16 of the 16 images"):
        record(bundle, evaluation, Crop.BUNDLE, baselines=[naive])
    bundle = record(bundle, evaluation, Crop.BUNDLE, baselines=[naive], allow_seen=True)
    verify(bundle)
    assert {REFERENCE, PER_CLASS} <= bundle.manifest.files.keys()
    for evaluated, marks in (
        (bundle.variant("ptq"), (0, True)),
        (bundle.manifest.baselines["naive"], (16, False)),
    ):
        assert [(e.seen_images, e.reference) for e in evaluated.evaluations] == [marks]
    # A result on seen images is not compared with the others.
    assert rows(variant_table(bundle.manifest))["naive"][2:] == [""] * 8
    assert "naive" not in pair_table(bundle.manifest)


def test_a_reference_on_images_found_to_be_seen_is_removed(copy: Bundle, evaluation: Path) -> None:
    bundle = record(copy, evaluation, Crop.BUNDLE)
    (image, *_) = labelled_images(evaluation, copy.classes)
    seen = f"{image.sha256[:16]}\n".encode()
    files = {**bundle.manifest.files, SEEN_IMAGES: sha256_of(seen)}
    manifest = bundle.manifest.model_copy(update={"files": files})
    bundle = write_bundle(bundle.path, manifest, {**bundle_files(bundle), SEEN_IMAGES: seen})
    bundle = record(bundle, evaluation, Crop.BUNDLE, allow_seen=True)
    verify(bundle)
    assert {REFERENCE, PER_CLASS}.isdisjoint(bundle.manifest.files)
    assert [(e.seen_images, e.reference) for e in bundle.variant("ptq").evaluations] == [(1, False)]
