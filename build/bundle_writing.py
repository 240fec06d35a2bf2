"""Writing a bundle's folder, whole or not at all, and replacing one that is already there."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from service.bundle.folder import Bundle, load_bundle, read_manifest, strangers_in, verify
from service.bundle.manifest import MANIFEST, Manifest
from service.errors import BundleError


def check_replaceable(path: Path) -> None:
    """Check that there is nothing at `path`, or an empty folder, or only a bundle, which another can replace.

    Raises:
        BundleError: it is a file, or a folder with other things in it, which would be lost; or this user may
            not replace it.
    """
    if path.exists() and not path.is_dir():
        raise BundleError(f"{path} is a file; name a new folder")
    if not path.is_dir():
        return
    there = path.resolve()
    for folder in (there, there.parent):
        # Both: moving a folder into another one also changes its own entry for its parent.
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            raise BundleError(f"{path} can't be replaced: this user may not write to {folder}")
    if (path / MANIFEST).is_file():
        try:
            strangers = strangers_in(path, read_manifest(path))
        except BundleError:
            raise BundleError(
                f"{path} has a {MANIFEST}, but is not a bundle that can be read here; name a new folder,"
                " or remove it"
            ) from None
    else:
        strangers = sorted(p.name for p in path.iterdir())
    if strangers:
        raise BundleError(f"{path} is a folder with other things in it ({strangers[0]}); name a new folder")


def rewrite_bundle(bundle: Bundle, manifest: Manifest, files: Mapping[str, Path | bytes]) -> Bundle:
    """Rewrite a bundle in place, as `write_bundle` does, with another manifest and other files.

    Raises:
        BundleError: see `write_bundle`; or the bundle there is no longer this one.
    """
    if read_manifest(bundle.path) != bundle.manifest:
        raise BundleError(
            f"{bundle.path} was changed meanwhile by another command; run this again with what is there now"
        )
    return write_bundle(bundle.path, manifest, files)


def write_bundle(path: Path, manifest: Manifest, files: Mapping[str, Path | bytes]) -> Bundle:
    """Write a bundle to `path`, whole or not at all, replacing a bundle that is already there.

    The result is not signed: an existing signature goes with the manifest that it signed. If `path` is a
    link, its target is replaced.
    `files` gives the content of every file that the manifest names, as bytes or as a file to copy.

    Raises:
        BundleError: the content disagrees with the manifest, it can't be written, or `path` is
            a file, or a folder with something other than a bundle in it.
    """
    path = path.resolve()
    check_replaceable(path)
    staging: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        staging.chmod(0o755)
        for name, content in files.items():
            if isinstance(content, Path):
                shutil.copyfile(content, staging / name)
            else:
                (staging / name).write_bytes(content)
        text = manifest.model_dump_json(indent=2, exclude_defaults=True) + "\n"
        (staging / MANIFEST).write_bytes(text.encode())
        verify(load_bundle(staging))
        _replace(staging, path)
    except OSError as error:
        raise BundleError(f"{path} can't be written: {error.strerror or error}") from None
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return load_bundle(path)


def bundle_files(bundle: Bundle) -> dict[str, Path | bytes]:
    """Return every file that the manifest names, as `write_bundle` takes them."""
    names = [*bundle.manifest.files, *(v.stored.file for v in bundle.manifest.variants.values())]
    return {name: bundle.path / name for name in names}


def _replace(staging: Path, path: Path) -> None:
    if not path.exists():
        staging.rename(path)
        return
    # Two renames, since no portable call swaps two folders: the old bundle is there until the first,
    # the new one from the second on.
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    try:
        path.rename(old / path.name)
        staging.rename(path)
    finally:
        # However this ends, even by an interruption in between, the old bundle goes only if another is there.
        if not path.exists():
            (old / path.name).rename(path)
        shutil.rmtree(old, ignore_errors=True)
