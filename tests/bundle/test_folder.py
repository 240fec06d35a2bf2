"""Bundles are read as they were written, and errors name the damaged file."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.bundle.folder import (
    Bundle,
    bundle_files,
    check_replaceable,
    load_bundle,
    read_file,
    rewrite_bundle,
    sha256_of,
    verify,
    verify_variant,
    write_bundle,
)
from service.bundle.manifest import CLASS_IDS, GOLDEN, LABELS, MANIFEST, SEEN_IMAGES, SIGNATURE
from service.errors import BundleError
from tests.colours import CLASS_IDS_OF, LABELS_OF, PRECISIONS, altered, lines
from tests.packed import packed_copy, replace_packed
from tests.rights import as_an_ordinary_user
from tests.signed import KeyPair, flip, make_key_pair, signed_copy

FILES = [LABELS, CLASS_IDS, GOLDEN, "fp32.tflite", "softmax.tflite"]


@pytest.fixture
def copied(colours: Bundle, tmp_path: Path) -> Bundle:
    shutil.copytree(colours.path, tmp_path / "copied")
    return load_bundle(tmp_path / "copied")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def signed(colours: Bundle, pair: KeyPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a signed bundle; tests that change it restore it."""
    return signed_copy(colours, tmp_path_factory.mktemp("signed") / "colours", pair)


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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
        (b"", "is not a valid manifest: the file: Invalid JSON"),
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


def test_writing_replaces_an_existing_bundle(colours: Bundle, copied: Bundle) -> None:
    renamed = colours.manifest.model_copy(update={"name": "renamed"})
    assert write_bundle(copied.path, renamed, bundle_files(colours)).manifest.name == "renamed"
    assert load_bundle(copied.path).manifest == renamed
    assert [path.name for path in copied.path.parent.iterdir()] == ["copied"]


def test_a_bundle_can_be_written_over_itself(copied: Bundle) -> None:
    before = content_of(copied.path)
    write_bundle(copied.path, copied.manifest, bundle_files(copied))
    assert content_of(copied.path) == before


def test_a_bundle_that_was_changed_meanwhile_is_not_written_over(colours: Bundle, copied: Bundle) -> None:
    renamed = copied.manifest.model_copy(update={"name": "renamed"})
    rewrite_bundle(copied, renamed, bundle_files(copied))
    with pytest.raises(BundleError, match="was changed meanwhile by another command"):
        rewrite_bundle(copied, copied.manifest, bundle_files(copied))
    assert load_bundle(copied.path).manifest == renamed


def test_a_failed_write_leaves_the_existing_bundle_alone(copied: Bundle) -> None:
    before = content_of(copied.path)
    with pytest.raises(BundleError, match=r"ptq\.tflite has \d+ bytes"):
        write_bundle(copied.path, copied.manifest, bundle_files(copied) | {"ptq.tflite": b"other"})
    with pytest.raises(BundleError, match="can't be written: No such file"):
        write_bundle(copied.path, copied.manifest, bundle_files(copied) | {LABELS: Path("nowhere")})
    assert content_of(copied.path) == before
    assert [path.name for path in copied.path.parent.iterdir()] == ["copied"]


def test_a_packed_variant_is_verified_packed_and_unpacked(colours: Bundle, tmp_path: Path) -> None:
    bundle = packed_copy(colours, tmp_path / "packed", "ptq")
    assert bundle.variant_path("ptq") == bundle.path / "ptq.tflite.zst"
    assert verify_variant(bundle, "ptq") == colours.variant_path("ptq").read_bytes()
    assert verify_variant(bundle, "fp32") is None
    verify(bundle)
    assert write_bundle(tmp_path / "again", bundle.manifest, bundle_files(bundle)).manifest == bundle.manifest
    (bundle.path / "ptq.tflite").write_bytes(b"")
    with pytest.raises(BundleError, match=r"does not name: ptq\.tflite$"):
        verify(bundle)


def test_no_bundle_is_written_with_a_variant_that_does_not_unpack(colours: Bundle, tmp_path: Path) -> None:
    bundle = replace_packed(packed_copy(colours, tmp_path / "packed", "ptq"), "ptq", b"no frame")
    with pytest.raises(BundleError, match=r"ptq\.tflite\.zst can't be unpacked: .*; build the bundle again"):
        write_bundle(tmp_path / "again", bundle.manifest, bundle_files(bundle))
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_bundle_survives_an_interrupted_replacement(
    copied: Bundle, monkeypatch: pytest.MonkeyPatch, nth: int, error: type[BaseException]
) -> None:
    rename, calls = Path.rename, []

    def interrupted(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == nth:
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises((KeyboardInterrupt, BundleError)):
        write_bundle(copied.path, copied.manifest, bundle_files(copied))
    verify(load_bundle(copied.path))
    assert [path.name for path in copied.path.parent.iterdir()] == ["copied"]


def test_a_folder_with_other_things_in_it_is_left_alone(colours: Bundle, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(BundleError, match="other things in it"):
        write_bundle(tmp_path, colours.manifest, bundle_files(colours))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("manifest", [None, '{"name": "a web page", "icons": []}', "{"])
def test_a_manifest_alone_does_not_make_a_folder_replaceable(
    copied: Bundle, colours: Bundle, manifest: str | None
) -> None:
    (copied.path / "notes.txt").write_text("mine")
    if manifest is not None:
        (copied.path / MANIFEST).write_text(manifest)
    before = content_of(copied.path)
    with pytest.raises(
        BundleError, match=r"other things in it \(notes\.txt\)|is not a bundle that can be read here"
    ):
        write_bundle(copied.path, colours.manifest, bundle_files(colours))
    assert content_of(copied.path) == before


def test_a_path_that_can_not_be_written_is_reported(colours: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="can't be written"):
        write_bundle(tmp_path / "file" / "bundle", colours.manifest, bundle_files(colours))


@pytest.mark.parametrize("closed", ["folder", "folder/colours"])
def test_a_bundle_that_this_user_may_not_replace_is_refused_beforehand(
    colours: Bundle, open_path: Path, closed: str
) -> None:
    path = open_path / "folder" / "colours"
    shutil.copytree(colours.path, path)
    for folder in (path.parent, path):
        folder.chmod(0o777)
    (open_path / "link").symlink_to(path)
    (open_path / closed).chmod(0o555)
    message = f"{open_path}/link can't be replaced: this user may not write to {open_path / closed}$"
    with as_an_ordinary_user(), pytest.raises(BundleError, match=message):
        check_replaceable(open_path / "link")
    (open_path / closed).chmod(0o777)
    with as_an_ordinary_user():
        check_replaceable(open_path / "link")


def test_a_bundle_can_be_read_by_others(colours: Bundle) -> None:
    assert colours.path.stat().st_mode & 0o777 == 0o755


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
    load_bundle(signed, pair.public)


def test_a_signed_bundle_with_an_extra_file_is_refused(signed: Path, pair: KeyPair) -> None:
    extra = signed / "extra.bin"
    extra.touch()
    with pytest.raises(BundleError, match=r"does not name: extra\.bin"):
        load_bundle(signed, pair.public)
    extra.unlink()
    load_bundle(signed, pair.public)


def test_rewriting_a_bundle_removes_its_signature(colours: Bundle, pair: KeyPair, tmp_path: Path) -> None:
    path = signed_copy(colours, tmp_path / "bundle", pair)
    write_bundle(path, colours.manifest, bundle_files(colours))
    with pytest.raises(BundleError, match=r"manifest\.sig: No such file"):
        load_bundle(path, pair.public)
