from pathlib import Path
from typing import Any

import numpy as np
import pytest

from build.assembly.importing import named_models, variant_name
from build.errors import BuildError
from build.network.classes import IMAGENET
from service.bundle.folder import Bundle, verify, verify_variant
from service.bundle.manifest import LABELS, Filter, Precision, Preprocessing, Resize
from service.errors import BundleError, DelegateError, OperatorError
from service.images.pixels import Crop
from service.inference.classifier import Classifier
from service.measuring.evaluation import Candidate, evaluate
from service.measuring.labelled import labelled_images
from tests.build.assembly.conftest import imported
from tests.colours import CLASS_IDS_OF, LABELS_OF, MEAN, RGB, SIDE, STD
from tests.delegates import external
from tests.models import (
    packed_model,
    unpacked_model,
    with_channels_first,
    with_custom_operator,
    with_output_shape,
    with_unpacked_weights,
)


@pytest.mark.parametrize(
    ("file", "dtype", "precision", "options"),
    [
        ("fp32", "float32", Precision.FLOAT32, {"mean": 127.5, "std": 127.5}),
        ("ptq", "uint8", Precision.INT8, {}),
        ("int8", "int8", Precision.INT8, {}),
        ("softmax", "uint8", Precision.INT8, {"output": "probabilities"}),
        ("cast-uint8", "uint8", Precision.FLOAT32, {}),
        ("cast-int8", "int8", Precision.FLOAT32, {}),
    ],
)
def test_an_imported_model_classifies_every_colour(
    models: Path, tmp_path: Path, file: str, dtype: str, precision: Precision, options: dict[str, Any]
) -> None:
    bundle = imported(models / f"{file}.tflite", tmp_path / "bundle", class_ids=models / "ids.txt", **options)
    verify(bundle)
    variant = bundle.variant(file)
    assert (variant.input.dtype, variant.precision) == (dtype, precision)
    assert variant.provenance.recipe == {"imported": f"{file}.tflite"}
    assert (bundle.labels, bundle.class_ids) == (LABELS_OF, CLASS_IDS_OF)
    assert (bundle.manifest.name, bundle.manifest.default_variant) == ("bundle", file)
    classifier = Classifier(bundle, file)
    for index, rgb in enumerate(RGB.values()):
        probabilities = classifier.probabilities(np.full((SIDE, SIDE, 3), rgb, np.uint8))
        assert probabilities.argmax() == index


@pytest.mark.parametrize("name", ["dynamic", "fp16", "small"])
def test_importing_a_variant_keeps_its_precision_and_golden_tolerance(
    default_bundle: Bundle, tmp_path: Path, name: str
) -> None:
    model = tmp_path / f"{name}.tflite"
    content = verify_variant(default_bundle, name) or default_bundle.variant_path(name).read_bytes()
    model.write_bytes(content)
    bundle = imported(model, tmp_path / "bundle", labels=default_bundle.path / LABELS)
    for field in ("precision", "golden"):
        assert getattr(bundle.variant(name), field) == getattr(default_bundle.variant(name), field)


def test_the_preprocessing_is_recorded(models: Path, tmp_path: Path) -> None:
    shorter = imported(models / "ptq.tflite", tmp_path / "shorter")
    assert shorter.manifest.preprocessing == Preprocessing(
        height=SIDE, width=SIDE, resize=Resize.SHORTER_SIDE, crop_fraction=0.875, filter=Filter.BILINEAR
    )
    squashed = imported(models / "ptq.tflite", tmp_path / "squash", resize=Resize.SQUASH)
    assert squashed.manifest.preprocessing.crop_fraction == 1
    pixel = imported(models / "ptq.tflite", tmp_path / "pixel", crop_fraction=1 / SIDE)
    assert pixel.manifest.preprocessing.crop_fraction == 1 / SIDE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": Resize.SQUASH, "crop_fraction": 0.5}, "crop_fraction must be 1 if resize is squash"),
        (
            {"crop_fraction": 0.99 / SIDE},
            f"leaves less than a pixel of a photo of the model's size, {SIDE} x {SIDE}; pass 0.0313 or",
        ),
        (
            {"mean": 127.5, "std": 1.0},
            r"ptq\.tflite takes uint8 of scale 0\.0078\d* and zero point 12[78]: --mean and --std leave [1-4]"
            r" of a pixel's 256 values; pass those that it was trained with",
        ),
        ({"labels": Path("none.txt")}, r"none\.txt can't be read"),
    ],
)
def test_invalid_import_options_are_refused(
    models: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(BuildError, match=message) as caught:
        imported(models / "ptq.tflite", tmp_path / "bundle", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("file", ["cast-uint8", "cast-int8"])
@pytest.mark.parametrize("options", [{"mean": 127.5}, {"std": 127.5}, {"mean": MEAN, "std": STD}])
def test_mean_and_std_are_refused_for_an_input_without_a_scale(
    models: Path, tmp_path: Path, file: str, options: dict[str, Any]
) -> None:
    dtype = file.removeprefix("cast-")
    message = rf"{file}\.tflite takes {dtype} without a scale, .*: --mean and --std don't apply"
    with pytest.raises(BuildError, match=message):
        imported(models / f"{file}.tflite", tmp_path / "bundle", **options)
    assert not (tmp_path / "bundle").exists()


def test_an_int8_output_without_a_scale_is_refused(models: Path, tmp_path: Path) -> None:
    content = unpacked_model((models / "ptq.tflite").read_bytes())
    (graph,) = content.subgraphs
    graph.tensors[graph.outputs[0]].quantization = None
    (models / "ptq.tflite").write_bytes(packed_model(content))
    with pytest.raises(
        BundleError, match=r"^ptq: output is int8 without a scale, so its values mean nothing"
    ):
        imported(models / "ptq.tflite", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_model_that_gives_nan_is_refused(models: Path, tmp_path: Path) -> None:
    content = unpacked_model((models / "fp32.tflite").read_bytes())
    (graph,) = content.subgraphs
    (last,) = [operator for operator in graph.operators if graph.outputs[0] in operator.outputs]
    bias = content.buffers[graph.tensors[last.inputs[2]].buffer]
    bias.data = np.full(len(LABELS_OF), np.nan, np.float32).view(np.uint8)
    (models / "fp32.tflite").write_bytes(packed_model(content))
    with pytest.raises(BuildError, match=r"^fp32 gives NaN or infinity for its golden vectors"):
        imported(models / "fp32.tflite", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_an_output_with_a_height_and_a_width_of_one_is_accepted(models: Path, tmp_path: Path) -> None:
    four = models / "four.tflite"
    four.write_bytes(with_output_shape((models / "fp32.tflite").read_bytes(), [1, 1, 1, len(LABELS_OF)]))
    bundle = imported(four, tmp_path / "bundle", mean=127.5, std=127.5)
    verify(bundle)
    assert bundle.variant("four").output.shape == (1, len(LABELS_OF))
    classifier = Classifier(bundle, "four")
    for index, rgb in enumerate(RGB.values()):
        assert classifier.probabilities(np.full((SIDE, SIDE, 3), rgb, np.uint8)).argmax() == index


def test_a_channels_first_model_is_refused_with_how_to_convert_it(models: Path, tmp_path: Path) -> None:
    model = models / "first.tflite"
    model.write_bytes(with_channels_first((models / "fp32.tflite").read_bytes()))
    message = r"takes \[1, 3, 32, 32\], channels first: convert it to NHWC, .* with onnx2tf or ai-edge-torch$"
    with pytest.raises(BuildError, match=message):
        imported(model, tmp_path / "bundle", mean=127.5, std=127.5)


def test_a_wrong_number_of_labels_is_refused(models: Path, tmp_path: Path) -> None:
    (models / "labels.txt").write_text("black\nwhite\n")
    with pytest.raises(BuildError, match=r"labels\.txt has 2 lines, but the network has 5 classes"):
        imported(models / "ptq.tflite", tmp_path / "bundle")


def test_a_file_that_is_no_model_is_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"labels\.txt can't be loaded"):
        imported(models / "labels.txt", tmp_path / "bundle")
    with pytest.raises(BuildError, match=r"absent\.tflite can't be read: No such file"):
        imported(models / "absent.tflite", tmp_path / "bundle")


def test_a_reserved_variant_name_is_refused(models: Path, tmp_path: Path) -> None:
    (models / "ptq.tflite").rename(models / "pixels.tflite")
    with pytest.raises(BuildError, match=r"a variant can't be named pixels; rename .*pixels\.tflite"):
        imported(models / "pixels.tflite", tmp_path / "bundle")


def test_several_files_become_variants_of_one_bundle(models: Path, tmp_path: Path) -> None:
    files = [models / f"{name}.tflite" for name in ("ptq", "fp32", "int8")]
    bundle = imported(files, tmp_path / "bundle", mean=127.5, std=127.5)
    verify(bundle)
    assert list(bundle.manifest.variants) == ["ptq", "fp32", "int8"]
    assert (bundle.manifest.default_variant, bundle.manifest.architecture) == ("ptq", "bundle")
    scalings = {name: (v.input.mean, v.input.std) for name, v in bundle.manifest.variants.items()}
    assert scalings == {"ptq": (0, 1), "fp32": (127.5, 127.5), "int8": (0, 1)}
    for name in bundle.manifest.variants:
        alone = imported(
            models / f"{name}.tflite",
            tmp_path / name,
            **({"mean": 127.5, "std": 127.5} if name == "fp32" else {}),
        )
        assert bundle.variant(name) == alone.variant(name)
        for index, rgb in enumerate(RGB.values()):
            pixels = np.full((SIDE, SIDE, 3), rgb, np.uint8)
            assert Classifier(bundle, name).probabilities(pixels).argmax() == index


@pytest.mark.parametrize("file", ["normalized", "normalized-uint8", "normalized-int8"])
def test_each_channel_can_have_its_own_mean_and_std(models: Path, tmp_path: Path, file: str) -> None:
    bundle = imported(models / f"{file}.tflite", tmp_path / "bundle", mean=MEAN, std=STD)
    verify(bundle)
    assert (bundle.variant(file).input.mean, bundle.variant(file).input.std) == (MEAN, STD)
    classifier = Classifier(bundle, file)
    reference = Classifier(
        imported(models / "fp32.tflite", tmp_path / "other", mean=127.5, std=127.5), "fp32"
    )
    for index, rgb in enumerate(RGB.values()):
        pixels = np.full((SIDE, SIDE, 3), rgb, np.uint8)
        assert classifier.probabilities(pixels).argmax() == index
        expected = reference.scores(pixels)
        atol = 1e-4 if file == "normalized" else 0.1
        np.testing.assert_allclose(classifier.scores(pixels), expected, atol=atol)


def test_an_integer_input_that_needs_no_scaling_takes_raw_pixels(models: Path, tmp_path: Path) -> None:
    bundle = imported(models / "int8.tflite", tmp_path / "bundle", mean=127.5, std=127.5)
    assert bundle.variant("int8").input.takes_pixels
    # With a scale of 1 the input is in units of pixels, so the model itself must apply the mean and std.
    content = unpacked_model((models / "ptq.tflite").read_bytes())
    (graph,) = content.subgraphs
    graph.tensors[graph.inputs[0]].quantization.scale = [1.0]
    graph.tensors[graph.inputs[0]].quantization.zeroPoint = [0]
    (models / "ptq.tflite").write_bytes(packed_model(content))
    bundle = imported(models / "ptq.tflite", tmp_path / "rescaling", mean=MEAN, std=STD)
    assert bundle.variant("ptq").input.takes_pixels


@pytest.mark.parametrize("file", ["ptq", "int8", "cast-uint8"])
def test_three_zeros_and_ones_count_as_one_of_each(models: Path, tmp_path: Path, file: str) -> None:
    one, three = {"mean": 0.0, "std": 1.0}, {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    bundles = [
        imported(models / f"{file}.tflite", tmp_path / name, **options)
        for name, options in {"one": one, "three": three}.items()
    ]
    assert bundles[0].variant(file) == bundles[1].variant(file)
    assert bundles[1].variant(file).input.takes_pixels


def test_variants_are_named_after_their_files_or_explicitly() -> None:
    given = [("fp32", Path("a/Float.tflite")), (None, Path("a/INT8.tflite"))]
    assert named_models(given) == {"fp32": Path("a/Float.tflite"), "int8": Path("a/INT8.tflite")}
    message = r"^a/x\.tflite and b/X\.tflite would both be the variant x; pass one as NAME=FILE$"
    with pytest.raises(BuildError, match=message):
        named_models([(None, Path("a/x.tflite")), (None, Path("b/X.tflite"))])


def test_models_that_can_not_share_a_bundle_are_refused(
    models: Path, default_bundle: Bundle, tmp_path: Path
) -> None:
    other = default_bundle.variant_path("qat")
    message = (
        rf"ptq\.tflite takes 32 x 32 pixels and has 5 classes, {other} takes 224 x 224 pixels and has 1000"
        " classes; import them into separate bundles"
    )
    with pytest.raises(BuildError, match=message):
        imported([models / "ptq.tflite", other], tmp_path / "bundle")
    (models / "ptq.tflite").rename(models / "fp32.tflite")
    message = r"fp32 must be float32, since all others are .*, but .*/fp32\.tflite is int8; pass NAME="
    with pytest.raises(BuildError, match=message):
        imported([models / "int8.tflite", models / "fp32.tflite"], tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("mobilenet_v2_1.0_224_quant", "mobilenet_v2_1_0_224_quant"),
        ("Größe", "gr__e"),
        ("-_x", "x"),
        ("...", "imported"),
        ("a" * 100, "a" * 64),
    ],
)
def test_a_file_name_becomes_a_valid_variant_name(stem: str, name: str) -> None:
    assert variant_name(stem) == name


def test_an_imported_mobilenet_is_accurate_on_imagenet_photos(shared: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("background\n" + (IMAGENET / "labels.txt").read_text())
    bundle = imported(
        shared / "models" / "mobilenet_v2_1.0_224_quant.tflite",
        tmp_path / "mobilenet",
        labels=labels,
        class_ids=IMAGENET / "class_ids.txt",
        output="probabilities",
    )
    assert bundle.class_ids is not None
    assert (bundle.class_ids[0], bundle.class_ids[282]) == ("background", "n02123045")
    images = labelled_images(shared / "images" / "imagenet-val", bundle.classes)
    name = bundle.manifest.default_variant
    evaluations = evaluate({name: Candidate(bundle, name)}, images, Crop.NONE, "imagenet-val").evaluations
    assert evaluations[name].dataset.images == 650
    assert evaluations[name].top1.ratio >= 0.77


def test_an_import_runs_the_model_on_the_given_delegate(models: Path, tmp_path: Path, library: Path) -> None:
    options = {"mean": 127.5, "std": 127.5}
    bundle = imported(models / "fp32.tflite", tmp_path / "bundle", delegate=external(library), **options)
    assert Classifier(bundle, "fp32", external(library)).share.taken == 1
    with pytest.raises(DelegateError, match=r"takes none of .*ptq\.tflite"):
        imported(models / "ptq.tflite", tmp_path / "other", delegate=external(library))
    compiled = models / "edge.tflite"
    compiled.write_bytes(with_custom_operator((models / "fp32.tflite").read_bytes(), "edgetpu-custom-op"))
    with pytest.raises(OperatorError, match=r"edge\.tflite needs the operator edgetpu-custom-op"):
        imported(compiled, tmp_path / "edge", **options)


def test_a_model_that_fails_to_run_is_refused(models: Path, tmp_path: Path, library: Path) -> None:
    failing = external(library, "fail-invoke")
    with pytest.raises(BuildError, match=r"fp32 fails when it is run: .*failed to invoke"):
        imported(models / "fp32.tflite", tmp_path / "bundle", delegate=failing, mean=127.5, std=127.5)
    assert not (tmp_path / "bundle").exists()


def test_weights_that_are_only_stored_as_integers_are_checked_as_floats(
    default_bundle: Bundle, tmp_path: Path
) -> None:
    model = tmp_path / "stored.tflite"
    model.write_bytes(with_unpacked_weights(default_bundle.variant_path("dynamic").read_bytes()))
    variant = imported(model, tmp_path / "bundle", labels=default_bundle.path / LABELS).variant("stored")
    assert variant.precision is Precision.MIXED
    assert variant.golden == default_bundle.variant("fp32").golden
