from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from build.assembly.assemble import (
    About,
    Model,
    assemble,
    check_destination,
    golden_pixels,
    refuse_other_classes,
)
from build.errors import BuildError
from build.network.architecture import ARCHITECTURE
from build.network.weights import default_preprocessing
from build.photos.data import sample
from service.bundle.folder import SEEN_DIGITS, Bundle, Classes, load_bundle, sha256_of, verify, verify_variant
from service.bundle.manifest import Precision, Provenance, Tensor
from service.errors import BundleError, SelfTestError
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate
from service.measuring.labelled import image_set
from tests.build.conftest import CLASSES, REPRESENTATIVE, SIZE, SMALL_PTQ
from tests.colours import altered, archive, golden_of
from tests.delegates import by_each_built_in

ABOUT = About("small", ARCHITECTURE, "unknown", default="ptq")
PREPROCESSING = default_preprocessing(SIZE)


def models(small: Bundle) -> list[Model]:
    """The small bundle's files, to be assembled again."""
    return [
        Model(name, small.variant_path(name).read_bytes(), variant.precision, variant.provenance)
        for name, variant in small.manifest.variants.items()
    ]


def test_the_bundle_matches_its_manifest(small: Bundle) -> None:
    verify(small)
    assert sorted(path.name for path in small.path.iterdir()) == [
        "fp32.tflite",
        "golden.npz",
        "labels.txt",
        "manifest.json",
        "ptq.tflite",
        "seen_images.txt",
    ]
    assert small.labels == CLASSES
    assert small.manifest.preprocessing == PREPROCESSING


def test_the_quantized_variant_is_the_default(small: Bundle) -> None:
    assert small.manifest.default_variant == "ptq"
    precisions = {name: variant.precision for name, variant in small.manifest.variants.items()}
    assert precisions == {"fp32": Precision.FLOAT32, "ptq": Precision.INT8}


@by_each_built_in
@pytest.mark.parametrize("variant", ["fp32", "ptq"])
def test_each_variant_computes_its_golden_vectors(small: Bundle, variant: str, delegate: Delegate) -> None:
    Classifier(small, variant, delegate)


@pytest.mark.parametrize("variant", ["fp32", "ptq"])
def test_outputs_that_differ_from_the_golden_vectors_are_refused(
    small: Bundle, tmp_path: Path, variant: str
) -> None:
    golden = golden_of(small)
    shifted = golden[variant].astype(np.float64) + small.manifest.variants[variant].golden.largest * 2
    golden[variant] = shifted.clip(-128, 127).astype(golden[variant].dtype)
    bundle = altered(small, tmp_path / "small", {"golden.npz": archive(golden)})
    with pytest.raises(SelfTestError, match="does not compute its golden vectors"):
        Classifier(bundle, variant)


def test_the_golden_pixels_are_a_photo_its_mirror_image_and_its_negative() -> None:
    upright, mirrored, negative = golden_pixels(PREPROCESSING)
    assert upright.std() > 30
    np.testing.assert_array_equal(mirrored, upright[:, ::-1])
    np.testing.assert_array_equal(negative, 255 - upright)


def test_the_manifest_declares_the_input_and_output_tensors(small: Bundle) -> None:
    ptq, fp32 = small.variant("ptq"), small.variant("fp32")
    assert (ptq.input.dtype, ptq.input.zero_point) == ("uint8", 114)
    assert ptq.input.scale == pytest.approx(1 / 57.375)
    assert (ptq.output.dtype, ptq.output.kind, ptq.output.shape) == ("int8", "logits", (1, len(CLASSES)))
    assert (fp32.input.dtype, fp32.input.mean, fp32.input.std) == ("float32", 0, 1)
    assert fp32.output == fp32.output.model_copy(update=Tensor(dtype="float32", shape=(1, 4)).model_dump())


def test_how_each_variant_was_made_is_recorded(small: Bundle, calibration: Path) -> None:
    photos = sample(calibration, REPRESENTATIVE).photos
    ptq, fp32 = small.variant("ptq").provenance, small.variant("fp32").provenance
    assert ptq.recipe == {**SMALL_PTQ.settings(), "imported": "small.h5"}
    assert ptq.calibration == image_set("calibration", [photo.sha256 for photo in photos])
    assert fp32.calibration is None
    assert ptq.command == fp32.command == "python -m build quantize"
    assert {"python", "tensorflow", "ai-edge-litert"} <= set(ptq.tools)
    assert small.seen_images == {photo.sha256[:SEEN_DIGITS] for photo in photos}


def test_the_same_files_make_the_same_bundle(small: Bundle, tmp_path: Path) -> None:
    again = assemble(
        models(small),
        ABOUT,
        small.classes,
        PREPROCESSING,
        tmp_path / "small",
        seen_images=small.seen_images,
    )
    assert again.manifest == small.manifest
    for path in small.path.iterdir():
        assert sha256_of(tmp_path / "small" / path.name) == sha256_of(path), path.name


def test_packing_a_file_is_lossless_and_reproducible(small: Bundle, tmp_path: Path) -> None:
    fp32, ptq = models(small)
    bundles = [
        assemble([fp32, replace(ptq, packed=True)], ABOUT, small.classes, PREPROCESSING, tmp_path / name)
        for name in ("first", "second")
    ]
    variant = bundles[0].variant("ptq")
    assert variant.model_copy(update={"wire": None}) == small.variant("ptq")
    assert variant.wire is not None
    assert (variant.wire.file, bundles[0].variant_path("ptq").stat().st_size) == (
        "ptq.tflite.zst",
        variant.wire.bytes,
    )
    assert variant.wire.bytes < variant.bytes
    assert verify_variant(bundles[0], "ptq") == ptq.content
    assert not (bundles[0].path / "ptq.tflite").exists()
    assert bundles[1].manifest.variants == bundles[0].manifest.variants


def test_a_bundle_replaces_the_previous_one(small: Bundle, copy: Bundle) -> None:
    fp32, _ = models(small)
    assemble([fp32], replace(ABOUT, default="fp32"), small.classes, PREPROCESSING, copy.path)
    assert list(load_bundle(copy.path).manifest.variants) == ["fp32"]
    assert not (copy.path / "ptq.tflite").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"about": replace(ABOUT, default="qat")}, "default_variant 'qat' is not among the variants"),
        ({"classes": Classes(CLASSES[:3], None)}, r"output shape \(1, 4\), expected \(1, 3\)"),
        (
            {"preprocessing": default_preprocessing(96)},
            r"fp32 takes \(1, 64, 64, 3\), expected \(1, 96, 96, 3\)",
        ),
    ],
    ids=["default", "classes", "size"],
)
def test_inconsistent_arguments_are_refused_and_nothing_is_written(
    small: Bundle, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    arguments = {
        "models": models(small),
        "about": ABOUT,
        "classes": small.classes,
        "preprocessing": PREPROCESSING,
        "path": tmp_path / "small",
    }
    with pytest.raises(BuildError, match=message) as caught:
        assemble(**(arguments | change))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_model_is_refused(small: Bundle, tmp_path: Path) -> None:
    provenance = Provenance(command="", recipe={}, tools={})
    text = Model("text", b"not a model at all", Precision.FLOAT32, provenance)
    with pytest.raises(BundleError, match="can't be loaded"):
        assemble([text], ABOUT, small.classes, PREPROCESSING, tmp_path / "small")


@pytest.mark.parametrize("name", ["my bundle", "-small", "süß", "x" * 65])
def test_a_folder_name_that_can_not_name_a_bundle_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BuildError, match="a bundle has its folder's name, up to 64 letters"):
        check_destination(tmp_path / name)


def test_a_bundle_does_not_replace_other_files(small: Bundle, tmp_path: Path) -> None:
    check_destination(small.path)
    check_destination(tmp_path / "new")
    check_destination(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BundleError, match="is a folder with other things in it"):
        check_destination(tmp_path)
    with pytest.raises(BundleError, match=r"notes\.txt is a file"):
        check_destination(tmp_path / "notes.txt")


def test_a_bundle_of_other_classes_is_not_replaced(small: Bundle, tmp_path: Path) -> None:
    refuse_other_classes(small.path, small.classes)
    refuse_other_classes(tmp_path / "none", small.classes)
    with pytest.raises(BuildError, match="holds a bundle of other classes, which would be replaced"):
        refuse_other_classes(small.path, Classes(("a", "b"), None))
    (tmp_path / "manifest.json").write_text("{}")
    refuse_other_classes(tmp_path, small.classes)  # A bundle that can't be read may be replaced.


def test_an_unwritable_destination_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(BuildError, match=r"file is not a writable folder"):
        check_destination(tmp_path / "file" / "deep" / "bundle")
    with pytest.raises(BuildError, match=r"link is a broken link"):
        check_destination(tmp_path / "link")
    check_destination(tmp_path / "new" / "deep" / "bundle")
