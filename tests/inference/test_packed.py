"""Variants that the bundle holds packed are served like any other."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from build.packing import pack
from service.bundle.folder import Bundle, load_bundle, sha256_of
from service.errors import BundleError
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate
from service.inference.footprint import measure_footprint
from service.inference.loading import load_variant
from tests.colours import PRECISIONS, RGB
from tests.delegates import by_each_built_in, external
from tests.packed import packed_copy, replace_packed


@pytest.fixture(scope="module")
def packed(colours: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return packed_copy(colours, tmp_path_factory.mktemp("packed") / "bundle", *PRECISIONS)


@pytest.fixture
def copied(packed: Bundle, tmp_path: Path) -> Bundle:
    return load_bundle(Path(shutil.copytree(packed.path, tmp_path / "copied")))


@pytest.mark.parametrize("variant", PRECISIONS)
@by_each_built_in
def test_a_packed_variant_answers_exactly_like_the_plain_file(
    colours: Bundle, packed: Bundle, variant: str, delegate: Delegate
) -> None:
    assert not (packed.path / f"{variant}.tflite").exists()
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    plain = Classifier(colours, variant, delegate)
    first, second = load_variant(packed, variant, delegate, workers=2).classifiers
    assert first.share == plain.share
    for pixels in (noise, *(np.full_like(noise, rgb) for rgb in RGB.values())):
        expected = plain.probabilities(pixels)
        for classifier in (first, second):
            np.testing.assert_array_equal(classifier.probabilities(pixels), expected)


def test_twins_share_one_copy_that_no_longer_needs_the_file(copied: Bundle) -> None:
    first = Classifier(copied, "ptq")
    copied.variant_path("ptq").unlink()
    second = first.twin()
    assert second._content is first._content
    assert sha256_of(second._content or b"") == copied.variant("ptq").sha256


def test_a_packed_variant_is_tried_and_measured_in_a_separate_process(packed: Bundle, library: Path) -> None:
    loaded = load_variant(packed, "fp32", external(library))
    assert (loaded.share.taken, loaded.fallback) == (1, None)
    assert measure_footprint(packed, "ptq", Delegate.XNNPACK).load_seconds > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-1], r"has \d+ bytes, but the manifest says \d+; copy the bundle again"),
        (lambda content: content + b"\0", r"has \d+ bytes, but the manifest says \d+; copy the bundle again"),
        (lambda content: bytes([content[0] ^ 1]) + content[1:], r"is not the file .*; copy the bundle again"),
    ],
    ids=["truncated", "longer", "corrupted"],
)
def test_a_damaged_packed_file_is_not_loaded(copied: Bundle, change, message: str) -> None:
    file = copied.variant_path("ptq")
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(BundleError, match=rf"^{re.escape(str(file))} {message}$"):
        Classifier(copied, "ptq")


def test_a_file_that_unpacks_to_another_model_is_not_loaded(copied: Bundle, colours: Bundle) -> None:
    content = bytearray(colours.variant_path("ptq").read_bytes())
    content[-1] ^= 1
    message = (
        r"ptq\.tflite\.zst does not unpack to the file that the manifest names .*; build the bundle again"
    )
    with pytest.raises(BundleError, match=message):
        Classifier(replace_packed(copied, "ptq", pack(bytes(content))), "ptq")
