from pathlib import Path

from build.evidence.evaluation import record_evaluation
from build.evidence.tables import variant_table
from service.bundle.folder import SEEN_DIGITS, Bundle, verify
from service.bundle.manifest import LABELS
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
