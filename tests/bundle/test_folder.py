"""Bundles are read as they were written, and errors name the damaged file."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.bundle.folder import (
    Bundle,
    load_bundle,
    read_file,
    sha256_of,
    verify,
    verify_variant,
)
from service.bundle.manifest import CLASS_IDS, GOLDEN, LABELS, MANIFEST, SEEN_IMAGES, SIGNATURE
from service.errors import BundleError
from tests.colours import CLASS_IDS_OF, LABELS_OF, PRECISIONS, altered, lines
from tests.packed import packed_copy
from tests.signed import KeyPair, flip, make_key_pair, signed_copy

FILES = [LABELS, CLASS_IDS, GOLDEN, "fp32.tflite", "softmax.tflite"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def signed(colours: Bundle, pair: KeyPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a signed bundle; tests that change it restore it."""
    return signed_copy(colours, tmp_path_factory.mktemp("signed") / "colours", pair)


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\x0b", "\x1c"])
def test_a_label_may_have_separators_other_than_newlines(
    colours: Bundle, tmp_path: Path, character: str
) -> None:
    labels = (f"red{character}wine", *LABELS_OF[1:])
    bundle = altered(colours, tmp_path / "bundle", {LABELS: lines(labels)})
    assert load_bundle(bundle.path).labels == labels


def test_a_bundle_is_read_as_it_was_written(colours: Bundle) -> None:
    assert colours.labels == LABELS_OF
    assert colours.class_ids == CLASS_IDS_OF
    assert colours.classes.labels == LABELS_OF
    assert colours.seen_images == frozenset()
    assert set(colours.manifest.variants) == set(PRECISIONS)
    assert colours.variant_path("ptq") == colours.path / "ptq.tflite"
    assert load_bundle(colours.path) == colours
    verify(colours)


def test_a_bundle_can_be_moved(copied: Bundle, colours: Bundle) -> None:
    verify(copied)
    assert copied.manifest == colours.manifest


def test_class_ids_and_seen_images_are_optional(colours: Bundle, tmp_path: Path) -> None:
    seen = ["0123456789abcdef", "fedcba9876543210"]
    bundle = altered(colours, tmp_path / "bundle", {CLASS_IDS: None, SEEN_IMAGES: lines(seen)})
    assert bundle.class_ids is None
    assert bundle.seen_images == frozenset(seen)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["changed", "missing", "a folder"])
def test_the_error_names_the_damaged_file(copied: Bundle, name: str, damage: str) -> None:
    file = copied.path / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    if damage == "changed":
        file.write_bytes(content)
    elif damage == "a folder":
        file.mkdir()
    with pytest.raises(BundleError) as caught:
        verify(load_bundle(copied.path))
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_the_error_names_a_file_that_is_not_in_the_manifest(copied: Bundle) -> None:
    (copied.path / "extra.bin").touch()
    with pytest.raises(BundleError, match=r"does not name: extra\.bin"):
        verify(copied)


def test_an_endless_file_is_not_read(copied: Bundle) -> None:
    path = copied.variant_path("ptq")
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(BundleError, match=r"has 0 bytes, but the manifest says \d+; copy the bundle again"):
        verify_variant(copied, "ptq")


def test_loading_does_not_read_the_variants_files(copied: Bundle) -> None:
    copied.variant_path("fp32").unlink()
    assert load_bundle(copied.path) == copied
    verify_variant(copied, "ptq")
    with pytest.raises(BundleError, match=r"fp32\.tflite: No such file"):
        verify_variant(copied, "fp32")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "EDGEWISE_BUNDLE, or the command, must name"),
        (b"", "is not a valid manifest: Invalid JSON"),
        (b"[]", "is not a valid manifest"),
        (b"\xff\xfe", "is not a valid manifest"),
        (b'{"schema_version": 2, "name": "x"}', "is not a valid manifest: architecture: Field required"),
        (b'{"name": "x"}', "is not of schema version 2, the only supported one; build the bundle again"),
        (b'{"schema_version": 3, "name": "x"}', "is not of schema version 2"),
    ],
)
def test_a_bad_manifest_is_refused_in_one_line(copied: Bundle, content: bytes | None, message: str) -> None:
    file = copied.path / MANIFEST
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(copied.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (LABELS, lines(LABELS_OF[:-1]), "has 4 lines, but the model has 5 classes"),
        (CLASS_IDS, lines([*CLASS_IDS_OF, "c05"]), "has 6 lines, but the model has 5 classes"),
        (CLASS_IDS, lines([*CLASS_IDS_OF[:-1], "c00"]), "names 1 class ids twice"),
        (LABELS, b"\xff\n" * 5, "is not UTF-8"),
    ],
)
def test_text_that_disagrees_with_the_model_is_not_written(
    colours: Bundle, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        altered(colours, tmp_path / "bundle", {name: content})
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_an_unknown_variant_names_the_known_ones(colours: Bundle) -> None:
    with pytest.raises(BundleError, match="'nope'; it has: fp32, int8, ptq, softmax"):
        colours.variant("nope")


def test_a_file_is_checked_when_it_is_read(copied: Bundle) -> None:
    assert read_file(copied, LABELS) == lines(LABELS_OF)
    (copied.path / LABELS).write_bytes(lines(reversed(LABELS_OF)))
    with pytest.raises(BundleError, match="SHA-256 differs"):
        read_file(copied, LABELS)


def test_a_hash_is_the_same_of_a_file_and_of_its_bytes(colours: Bundle) -> None:
    file = colours.variant_path("fp32")
    assert sha256_of(file) == sha256_of(file.read_bytes()) == colours.variant("fp32").sha256


def test_a_packed_variant_is_verified_packed_and_unpacked(colours: Bundle, tmp_path: Path) -> None:
    bundle = packed_copy(colours, tmp_path / "packed", "ptq")
    assert bundle.variant_path("ptq") == bundle.path / "ptq.tflite.zst"
    assert verify_variant(bundle, "ptq") == colours.variant_path("ptq").read_bytes()
    assert verify_variant(bundle, "fp32") is None
    verify(bundle)
    (bundle.path / "ptq.tflite").write_bytes(b"")
    with pytest.raises(BundleError, match=r"does not name: ptq\.tflite$"):
        verify(bundle)


def test_a_signed_bundle_is_read_with_and_without_its_key(
    signed: Path, pair: KeyPair, colours: Bundle
) -> None:
    assert load_bundle(signed, pair.public).manifest == colours.manifest
    verify(load_bundle(signed))


@pytest.mark.parametrize(
    "name", [MANIFEST, SIGNATURE, LABELS, CLASS_IDS, GOLDEN, *(f"{variant}.tflite" for variant in PRECISIONS)]
)
@settings(max_examples=50)
@given(bit=st.integers(0, 2**31))
def test_a_signed_bundle_with_a_flipped_bit_is_refused(
    signed: Path, pair: KeyPair, name: str, bit: int
) -> None:
    flip(signed / name, bit)
    try:
        with pytest.raises(BundleError, match=name) as caught:
            load_bundle(signed, pair.public)
    finally:
        flip(signed / name, bit)
    assert "\n" not in str(caught.value)
    assert "; copy the bundle again" in str(caught.value)
    load_bundle(signed, pair.public)


def test_a_signed_bundle_with_an_extra_file_is_refused(signed: Path, pair: KeyPair) -> None:
    extra = signed / "extra.bin"
    extra.touch()
    with pytest.raises(BundleError, match=r"does not name: extra\.bin"):
        load_bundle(signed, pair.public)
    extra.unlink()
    load_bundle(signed, pair.public)
