"""Bundles are written whole or not at all, and only over other bundles."""

import shutil
from pathlib import Path

import pytest

from build.bundle_writing import bundle_files, check_replaceable, rewrite_bundle, write_bundle
from service.bundle.folder import Bundle, load_bundle, verify
from service.bundle.manifest import LABELS, MANIFEST
from service.errors import BundleError
from tests.packed import packed_copy, replace_packed
from tests.rights import as_an_ordinary_user
from tests.signed import KeyPair, make_key_pair, signed_copy


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def pair(tmp_path: Path) -> KeyPair:
    return make_key_pair(tmp_path / "keys")


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


def test_a_bundle_with_a_packed_variant_can_be_written_again(colours: Bundle, tmp_path: Path) -> None:
    bundle = packed_copy(colours, tmp_path / "packed", "ptq")
    assert write_bundle(tmp_path / "again", bundle.manifest, bundle_files(bundle)).manifest == bundle.manifest


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


def test_rewriting_a_bundle_removes_its_signature(colours: Bundle, pair: KeyPair, tmp_path: Path) -> None:
    path = signed_copy(colours, tmp_path / "bundle", pair)
    write_bundle(path, colours.manifest, bundle_files(colours))
    with pytest.raises(BundleError, match=r"manifest\.sig: No such file"):
        load_bundle(path, pair.public)
