"""The classifier, on a small real bundle whose answers are known."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.bundle.folder import Bundle
from service.bundle.manifest import GOLDEN, GoldenTolerance, InputTensor
from service.errors import BundleError, CorruptImage, ImageTooLarge, NoAnswer, SelfTestError
from service.images.pixels import Crop, DecodeLimits, fit
from service.inference.classifier import Classifier, Prediction, encode, softmax
from service.inference.delegates import Delegate
from service.inference.interpreter import Interpreter
from tests.colours import LABELS_OF, PRECISIONS, RGB, altered, archive, golden_of, golden_pixels
from tests.delegates import by_each_built_in
from tests.images.encoded import CROPPED
from tests.images.encoded import encode as encode_image

SHAPE = (1, 2, 2, 3)


def picture(colour: tuple[int, int, int]) -> bytes:
    return encode_image(Image.new("RGB", (60, 40), colour), "PNG")


@pytest.mark.parametrize("variant", PRECISIONS)
@by_each_built_in
def test_every_variant_tells_colours_apart(colours: Bundle, variant: str, delegate: Delegate) -> None:
    classifier = Classifier(colours, variant, delegate)
    for name, rgb in RGB.items():
        prediction = classifier.classify(picture(rgb))
        assert prediction.variant == variant
        assert colours.labels[prediction.top(1)[0][0]] == name
        assert prediction.probabilities.shape == (len(LABELS_OF),)
        assert prediction.probabilities.dtype == np.float32
        assert prediction.probabilities.sum() == pytest.approx(1, abs=1e-6)
        assert prediction.decode_seconds > 0
        assert prediction.inference_seconds > 0


def test_scores_are_the_logits_that_the_weights_give(colours: Bundle) -> None:
    """2 m·c - |c|² for a mean m of -1 to 1, computed here by hand."""
    red = np.full((32, 32, 3), (255, 0, 0), np.uint8)
    by_hand = np.array([-1, -5, -5, 3, -5], np.float32)
    np.testing.assert_allclose(Classifier(colours, "fp32").scores(red), by_hand, atol=1e-4)
    for variant in ("ptq", "int8"):
        step = colours.variant(variant).output.scale
        assert step is not None
        np.testing.assert_allclose(Classifier(colours, variant).scores(red), by_hand, atol=2 * step)


def test_a_softmax_in_the_model_equals_one_outside(colours: Bundle) -> None:
    inside, outside = Classifier(colours, "softmax"), Classifier(colours, "ptq")
    for pixels in golden_pixels():
        np.testing.assert_allclose(inside.probabilities(pixels), outside.probabilities(pixels), atol=0.02)


def test_the_crop_is_applied(colours: Bundle) -> None:
    """The image is white with red margins: white if it is cropped, red as a whole."""
    image = Image.new("RGB", (160, 40), "red")
    image.paste("white", (60, 0, 100, 40))
    data = encode_image(image, "PNG")
    classifier = Classifier(colours, "fp32")
    answers = {crop: colours.labels[classifier.classify(data, crop).top(1)[0][0]] for crop in Crop}
    assert answers == {Crop.BUNDLE: "white", Crop.NONE: "red"}


def test_a_photo_is_preprocessed_as_the_ingest_contract_says(
    colours: Bundle, photos: dict[str, Path]
) -> None:
    classifier = Classifier(colours, "ptq")
    cat = Image.open(photos["cat"]).convert("RGB")
    expected = classifier.probabilities(fit(cat, colours.manifest.preprocessing))
    answer = classifier.classify(photos["cat"].read_bytes()).probabilities
    np.testing.assert_array_equal(answer, expected)


def test_bad_images_and_limits_are_refused(colours: Bundle) -> None:
    classifier = Classifier(colours, "ptq", limits=DecodeLimits(max_pixels=2399))
    with pytest.raises(ImageTooLarge):
        classifier.classify(picture((0, 0, 0)))
    with pytest.raises(CorruptImage):
        classifier.classify(b"GIF89a")


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_nan_gives_no_answer(logarithmic: Bundle, tmp_path: Path, kind: str) -> None:
    output = logarithmic.variant("fp32").output.model_copy(update={"kind": kind})
    classifier = Classifier(altered(logarithmic, tmp_path / "bundle", fp32={"output": output}), "fp32")
    message = "^variant fp32 gives NaN or infinity for this image: its model is at fault, not the image$"
    with pytest.raises(NoAnswer, match=message):
        classifier.classify(picture(RGB["black"]))
    assert np.isfinite(classifier.classify(picture(RGB["blue"])).probabilities).all()


class Fixed(Classifier):
    """A classifier that gives fixed scores."""

    fixed: np.ndarray

    def scores(self, _pixels: np.ndarray) -> np.ndarray:
        return self.fixed


@pytest.mark.parametrize(
    ("variant", "scores", "expected"),
    [
        ("fp32", [0, -np.inf, 0], [0.5, 0, 0.5]),
        ("fp32", [np.inf, 0, 0], None),
        ("fp32", [-np.inf, -np.inf, -np.inf], None),
        ("fp32", [0, np.nan, 0], None),
        ("softmax", [0, 0, 0], [1 / 3, 1 / 3, 1 / 3]),
        ("softmax", [0, np.nan, 1], None),
        ("softmax", [0, np.inf, 1], None),
        ("softmax", [0, -np.inf, 1], None),
    ],
)
def test_only_a_logit_of_minus_infinity_gives_an_answer(
    colours: Bundle, variant: str, scores: list[float], expected: list[float] | None
) -> None:
    classifier = Classifier(colours, variant)
    classifier.__class__ = Fixed
    classifier.fixed = np.array(scores, np.float32)
    pixels = np.zeros((32, 32, 3), np.uint8)
    if expected is None:
        with pytest.raises(NoAnswer):
            classifier.probabilities(pixels)
    else:
        np.testing.assert_allclose(classifier.probabilities(pixels), expected, rtol=1e-6)


def test_the_likeliest_come_first_and_ties_by_index() -> None:
    probabilities = np.array([0.1, 0.3, 0.1, 0.3, 0.2], np.float32)
    prediction = Prediction("v", probabilities, 0, 0, np.zeros((2, 2, 3), np.uint8))
    assert [index for index, _ in prediction.top(5)] == [1, 3, 4, 0, 2]
    assert prediction.top(1) == [(1, pytest.approx(0.3))]
    assert prediction.top(0) == []
    assert len(prediction.top(99)) == 5


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (InputTensor(dtype="uint8", shape=SHAPE), np.array([0, 1, 127, 128, 254, 255], np.uint8)),
        (InputTensor(dtype="int8", shape=SHAPE), np.array([-128, -127, -1, 0, 126, 127], np.int8)),
        (InputTensor(dtype="float32", shape=SHAPE), np.array([0, 1, 127, 128, 254, 255], np.float32)),
        (
            InputTensor(dtype="float32", shape=SHAPE, mean=127.5, std=127.5),
            np.array([-1, -126.5 / 127.5, -0.5 / 127.5, 0.5 / 127.5, 126.5 / 127.5, 1], np.float32),
        ),
    ],
)
def test_pixels_are_encoded_as_the_input_declares(tensor: InputTensor, expected: np.ndarray) -> None:
    pixels = np.resize(np.array([0, 1, 127, 128, 254, 255], np.uint8), SHAPE[1:])
    encoded = encode(pixels, tensor)
    assert encoded.dtype == expected.dtype
    np.testing.assert_array_equal(encoded, np.resize(expected, SHAPE))


def test_every_channel_is_scaled_by_its_own_values() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    mean, std = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
    scaling = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
    expected = ((pixels.astype(np.float32) - mean) / std)[np.newaxis]
    input_ = InputTensor(dtype="float32", shape=(1, 5, 7, 3), **scaling)
    np.testing.assert_array_equal(encode(pixels, input_), expected)
    for dtype, zero_point in (("int8", -14), ("uint8", 114)):
        input_ = InputTensor(dtype=dtype, shape=(1, 5, 7, 3), scale=0.0187, zero_point=zero_point, **scaling)
        encoded = encode(pixels, input_)
        assert encoded.dtype == np.dtype(dtype)
        np.testing.assert_allclose(0.0187 * (encoded.astype(float) - zero_point), expected, atol=0.0094)
    # One mean for all channels, with three standard deviations.
    one_mean = InputTensor(dtype="float32", shape=(1, 5, 7, 3), mean=3.0, std=scaling["std"])
    np.testing.assert_array_equal(encode(pixels, one_mean)[0], (pixels.astype(np.float32) - 3) / std)


def test_values_beyond_an_integer_input_are_clipped() -> None:
    input_ = InputTensor(dtype="int8", shape=(1, 1, 2, 3), scale=0.01, zero_point=0, mean=127.5, std=60.0)
    pixels = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    np.testing.assert_array_equal(encode(pixels, input_)[0, 0, :, 0], [-128, 127])


def test_softmax_neither_overflows_nor_loses_the_tie() -> None:
    np.testing.assert_array_equal(softmax(np.array([3e38, 3e38, -3e38], np.float32)), [0.5, 0.5, 0])
    rows = softmax(np.array([[0, 0], [0, np.log(3)]], np.float32))
    np.testing.assert_allclose(rows, [[0.5, 0.5], [0.25, 0.75]], rtol=1e-6)


def test_a_damaged_file_is_not_loaded(copied: Bundle) -> None:
    file = copied.variant_path("ptq")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"ptq\.tflite is not the file"):
        Classifier(copied, "ptq")
    file.write_bytes(content[:-1])
    with pytest.raises(BundleError, match=r"ptq\.tflite has \d+ bytes"):
        Classifier(copied, "ptq")
    file.unlink()
    with pytest.raises(BundleError, match=r"ptq\.tflite: No such file"):
        Classifier(copied, "ptq")


def test_a_file_that_is_no_model_is_not_loaded(colours: Bundle, tmp_path: Path) -> None:
    bundle = altered(colours, tmp_path / "bundle", {"ptq.tflite": b"no model at all"})
    with pytest.raises(BundleError, match=r"ptq\.tflite can't be loaded by ai-edge-litert .*: \S+") as caught:
        Classifier(bundle, "ptq")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variant", "tensor", "change"),
    [
        ("ptq", "input", {"dtype": "int8"}),
        ("ptq", "input", {"zero_point": 3}),
        ("ptq", "output", {"scale": 0.5}),
        ("ptq", "output", {"scale": None, "zero_point": None}),
        ("fp32", "output", {"scale": 0.5, "zero_point": 0}),
    ],
)
def test_a_file_whose_tensors_differ_from_the_manifest_is_not_loaded(
    colours: Bundle, variant: str, tensor: str, change: dict[str, object]
) -> None:
    bundle = declaring(colours, variant, tensor, change)
    with pytest.raises(BundleError, match=rf"{variant}\.tflite: {tensor} is .*the manifest says"):
        Classifier(bundle, variant)


@pytest.mark.parametrize("tensor", ["input", "output"])
def test_a_scale_may_differ_by_rounding_only(colours: Bundle, tensor: str) -> None:
    scale = getattr(colours.variant("ptq"), tensor).scale
    Classifier(declaring(colours, "ptq", tensor, {"scale": scale * (1 + 1e-7)}), "ptq")
    with pytest.raises(BundleError, match="the manifest says"):
        Classifier(declaring(colours, "ptq", tensor, {"scale": scale * (1 + 1e-5)}), "ptq")


def declaring(bundle: Bundle, variant: str, tensor: str, change: dict[str, object]) -> Bundle:
    """The bundle with a manifest that declares a tensor differently."""
    declared = bundle.variant(variant)
    other = declared.model_copy(update={tensor: getattr(declared, tensor).model_copy(update=change)})
    variants = bundle.manifest.variants | {variant: other}
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"variants": variants}))


def with_golden(bundle: Bundle, path: Path, **arrays: np.ndarray) -> Bundle:
    return altered(bundle, path, {GOLDEN: archive(golden_of(bundle) | arrays)})


def test_an_answer_other_than_the_golden_one_stops_the_start(colours: Bundle, tmp_path: Path) -> None:
    golden = golden_of(colours)["ptq"].copy()
    golden[0, 0] -= 2
    bundle = with_golden(colours, tmp_path / "bundle", ptq=golden)
    with pytest.raises(SelfTestError, match=r"ptq\.tflite \(xnnpack\) .* is 2 \(at most 1\), 3\.33%"):
        Classifier(bundle, "ptq")


def test_a_golden_vector_of_nan_stops_the_start(colours: Bundle, tmp_path: Path) -> None:
    nan = np.full_like(golden_of(colours)["fp32"], np.nan)
    with pytest.raises(SelfTestError, match="is nan"):
        Classifier(with_golden(colours, tmp_path / "bundle", fp32=nan), "fp32")


@pytest.mark.parametrize(("share", "loads"), [(0.1, True), (0.09, False)])
def test_the_share_of_values_that_differ_is_limited(
    colours: Bundle, tmp_path: Path, share: float, loads: bool
) -> None:
    """3 of the 30 values differ by the one step that is allowed."""
    golden = golden_of(colours)
    golden["ptq"][0, :3] -= 1
    bundle = altered(
        colours,
        tmp_path / "bundle",
        {GOLDEN: archive(golden)},
        ptq={"golden": GoldenTolerance(largest=1, share=share)},
    )
    if loads:
        Classifier(bundle, "ptq")
    else:
        with pytest.raises(SelfTestError, match=r"10\.00% of the values differ \(at most 9\.00%\)"):
            Classifier(bundle, "ptq")


@pytest.mark.parametrize(
    "arrays",
    [
        {"ptq": np.zeros((6, 4), np.int8)},
        {"ptq": np.zeros((5, 5), np.int8)},
        {"ptq": np.zeros((6, 5), np.uint8)},
        {"ptq": np.zeros((6, 5), object)},
        {"pixels": np.zeros((6, 16, 16, 3), np.uint8)},
        {"pixels": np.zeros((0, 32, 32, 3), np.uint8), "ptq": np.zeros((0, 5), np.int8)},
        {"pixels": np.uint8(0)},
    ],
)
def test_golden_vectors_of_another_shape_stop_the_start(
    colours: Bundle, tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    bundle = with_golden(colours, tmp_path / "bundle", **arrays)
    with pytest.raises(BundleError, match=r"golden\.npz"):
        Classifier(bundle, "ptq")


def array_alone() -> bytes:
    """A file of one array, not an archive of several."""
    content = io.BytesIO()
    np.save(content, golden_pixels())
    return content.getvalue()


def array_of(shape: str) -> bytes:
    """An archive of an array that says it has this shape, and holds nothing."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("pixels.npy", b"\x93NUMPY\x01\x00\x76\x00" + header.encode())
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK junk",
        archive({"pixels": golden_pixels()}),
        array_alone(),
        array_of("(10000000000000000,)"),
        array_of("(" * 60),
    ],
    ids=["empty", "junk", "another variant's", "array", "huge", "unreadable"],
)
def test_missing_golden_vectors_stop_the_start(colours: Bundle, tmp_path: Path, content: bytes) -> None:
    bundle = altered(colours, tmp_path / "bundle", {GOLDEN: content})
    with pytest.raises(BundleError, match=r"golden\.npz has no golden vectors of ptq"):
        Classifier(bundle, "ptq")


def test_a_model_from_elsewhere_classifies_a_photo(shared: Path, photos: dict[str, Path]) -> None:
    """Only the interpreter is used: the build stage would make a bundle of the model."""
    labels = (shared / "models" / "imagenet_labels.txt").read_text().splitlines()
    interpreter = Interpreter(shared / "models" / "mobilenet_v2_1.0_224_quant.tflite")
    assert interpreter.input.shape == (1, 224, 224, 3)
    assert interpreter.output.shape == (1, 1001)
    pixels = fit(Image.open(photos["coffee"]).convert("RGB"), CROPPED)
    assert "espresso" in labels[int(interpreter.invoke(pixels[np.newaxis]).argmax())]
