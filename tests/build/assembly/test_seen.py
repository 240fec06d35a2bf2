import shutil
from pathlib import Path
from typing import Any

from build.assembly.variants import quantize
from build.evidence.evaluation import record_evaluation
from build.evidence.subset import write_subset
from build.evidence.tables import evaluation_table, variant_table
from build.network.weights import Network, load_network
from build.photos.data import PhotoSet
from build.quantization.recipe import load_recipe
from service.bundle.folder import SEEN_DIGITS, Bundle, load_bundle, verify
from service.bundle.manifest import LABELS, Filter, Manifest
from service.images.pixels import Crop
from service.measuring.labelled import labelled_images
from tests.build.assembly.conftest import imported
from tests.colours import write_photos
from tests.models import with_softmax


def test_importing_a_variant_keeps_the_seen_images_of_its_bundle(
    default_bundle: Bundle, tmp_path: Path
) -> None:
    labels = default_bundle.path / LABELS
    original = default_bundle.variant_path("ptq")
    bundle = imported(original, tmp_path / "again", labels=labels)
    verify(bundle)
    assert default_bundle.seen_images
    assert bundle.seen_images == default_bundle.seen_images
    more = imported(
        bundle.variant_path("ptq"),
        tmp_path / "more",
        labels=labels,
        seen_images=frozenset({"a" * SEEN_DIGITS}),
    )
    assert more.seen_images == default_bundle.seen_images | {"a" * SEEN_DIGITS}
    # A file in the bundle's folder that is not one of its variants: its seen images are unknown.
    other = bundle.path / "other.tflite"
    other.write_bytes(with_softmax(default_bundle.variant_path("dynamic").read_bytes()))
    unlisted = imported(other, tmp_path / "strange", labels=labels, output="probabilities")
    assert unlisted.seen_images == frozenset()


def test_tables_say_if_the_seen_images_of_an_import_are_unknown(models: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1)
    seen = frozenset(["0" * SEEN_DIGITS])
    unknown = imported(models / "ptq.tflite", tmp_path / "unknown")
    again = imported(unknown.variant_path("ptq"), tmp_path / "again", labels=models / "labels.txt")
    known = imported(models / "ptq.tflite", tmp_path / "known", seen_images=seen)
    notes = []
    for bundle in (unknown, again, known):
        images = labelled_images(tmp_path / "photos", bundle.classes)
        evaluated = record_evaluation(bundle, images, "photos", Crop.NONE)
        notes.append(variant_table(evaluated.manifest))
    for note in notes[:2]:
        assert "nothing is known about the images that `ptq` may have been trained or calibrated on." in note
    assert "the network is not known to have been trained or calibrated on any of them" in notes[2]
    assert not any("edgewise neither trained" in note for note in notes)
    assert known.seen_images == seen


def evaluated(bundle: Bundle, photos: Path, **options: Any) -> Manifest:
    images = labelled_images(photos, bundle.classes)
    return record_evaluation(bundle, images, "photos", Crop.NONE, **options).manifest


def seen_in_training(manifest: Manifest) -> dict[str, str]:
    """The column of the table of all evaluations."""
    cells = [line.strip("| ").split(" | ") for line in evaluation_table(manifest).splitlines()[2:]]
    return {row[0]: row[3] for row in cells if len(row) > 3}


def test_the_table_of_evaluations_counts_no_seen_images_where_none_are_known(
    models: Path, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 1)
    unknown = imported(models / "ptq.tflite", tmp_path / "unknown")
    assert seen_in_training(evaluated(unknown, tmp_path / "photos")) == {"ptq": "unknown"}
    listed = frozenset(["0" * SEEN_DIGITS])
    known = imported(models / "ptq.tflite", tmp_path / "known", seen_images=listed)
    assert seen_in_training(evaluated(known, tmp_path / "photos")) == {"ptq": "0"}


def test_tables_vouch_for_no_imported_baseline(models: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1)
    listed = frozenset(["0" * SEEN_DIGITS])
    known = imported(models / "ptq.tflite", tmp_path / "known", seen_images=listed)
    unknown = imported(models / "int8.tflite", tmp_path / "unknown")
    manifest = evaluated(known, tmp_path / "photos", baselines=[unknown])
    assert seen_in_training(manifest) == {"ptq": "0", "int8": "unknown"}
    assert "nothing is known about the images that `int8` may have been" in variant_table(manifest)
    both = imported([models / "ptq.tflite", models / "int8.tflite"], tmp_path / "both")
    evaluated(both, tmp_path / "photos")
    subset = write_subset(load_bundle(both.path), ["ptq"], tmp_path / "one").manifest
    assert seen_in_training(subset) == {"ptq": "unknown", "int8": "unknown"}
    assert "nothing is known about the images that `ptq`, `int8` may have been" in variant_table(subset)


def test_variants_say_of_weights_from_elsewhere_what_those_say(
    small: Bundle, start: Network, measured: Bundle, evaluation: Path, tmp_path: Path
) -> None:
    assert seen_in_training(measured.manifest) == dict.fromkeys(["fp32", "ptq", "start"], "unknown")
    assert "`fp32`, `ptq`, `start` may have been trained" in variant_table(measured.manifest)
    assert load_network(str(small.path)).origin == start.origin == {"imported": "small.h5"}
    labels, float32 = small.path / LABELS, load_recipe("fp32")
    listed = frozenset(["0" * SEEN_DIGITS])
    for name, seen, shown in (("unknown", None, "unknown"), ("known", listed, "0")):
        # Alone, the file says nothing of itself.
        (tmp_path / name).mkdir()
        file = Path(shutil.copy(small.variant_path("fp32"), tmp_path / name))
        options = {"labels": labels, "seen_images": seen, "filter": Filter.BICUBIC}
        other = imported(file, tmp_path / f"{name}-imported", **options)
        network = load_network(str(other.path))
        bundle = quantize(network, [float32], PhotoSet("none", ()), "", tmp_path / f"{name}-again")
        manifest = evaluated(bundle, evaluation)
        assert seen_in_training(manifest) == {"fp32": shown}
        assert "edgewise neither trained" not in variant_table(manifest)


def test_an_import_keeps_what_is_known_of_a_network_that_has_seen_more(small: Bundle, tmp_path: Path) -> None:
    assert small.seen_images
    again = imported(small.variant_path("ptq"), tmp_path / "again", labels=small.path / LABELS)
    assert again.seen_images == small.seen_images
    assert not again.variant("ptq").provenance.knows_its_images
