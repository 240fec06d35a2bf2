"""The bundle: a folder that the build stage writes and the service serves.

`load_bundle` reads and checks one, and `service.bundle.manifest` has the manifest's schema.
"""

import hashlib
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from service.bundle.lines import lines_of
from service.bundle.manifest import (
    CLASS_IDS,
    LABELS,
    MANIFEST,
    SCHEMA_VERSION,
    SEEN_IMAGES,
    SIGNATURE,
    Manifest,
    Variant,
)
from service.bundle.packing import unpack
from service.bundle.signature import check_signature
from service.bundle.validation import first_fault
from service.errors import BundleError

# How many hex digits of an image's SHA-256 `seen_images.txt` keeps.
SEEN_DIGITS = 16


@dataclass(frozen=True)
class Classes:
    """The names of a model's outputs, in index order; `class_ids` is None if there are none."""

    labels: tuple[str, ...]
    class_ids: tuple[str, ...] | None

    def by_label(self) -> dict[str, list[int]]:
        """Return the indices of the classes with each `composed` label; more than one if it repeats."""
        indices: dict[str, list[int]] = {}
        for index, label in enumerate(self.labels):
            indices.setdefault(composed(label), []).append(index)
        return indices

    def by_class_id(self) -> dict[str, int]:
        """Return the index of the class with each `composed` class id; none without class ids."""
        return {composed(class_id): index for index, class_id in enumerate(self.class_ids or ())}


def composed(name: str) -> str:
    """Return a name in the form in which names are compared, Unicode's NFC: macOS may decompose accents."""
    return unicodedata.normalize("NFC", name)


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and checked.

    `labels` and `class_ids` are in index order; `class_ids` is None if the bundle has none.
    `seen_images` holds the first 16 hex digits of the SHA-256 of every image file that the
    network was trained or calibrated on. `public_key`: the key that its signature was checked against, if
    that was asked for: then nothing may be loaded but the bytes that were checked.
    """

    path: Path
    manifest: Manifest
    labels: tuple[str, ...]
    class_ids: tuple[str, ...] | None
    seen_images: frozenset[str]
    public_key: Path | None = None

    @property
    def classes(self) -> Classes:
        """The names of the model's outputs."""
        return Classes(self.labels, self.class_ids)

    def variant(self, name: str) -> Variant:
        """Return the variant with that name.

        Raises:
            BundleError: there is none; the message names the existing ones.
        """
        try:
            return self.manifest.variants[name]
        except KeyError:
            names = ", ".join(sorted(self.manifest.variants))
            raise BundleError(f"the bundle {self.path} has no variant {name!r}; it has: {names}") from None

    def variant_path(self, name: str) -> Path:
        """Return the path of the variant's `.tflite`, or of the packed file in its place."""
        return self.path / self.variant(name).stored.file


def load_bundle(path: Path, public_key: Path | None = None) -> Bundle:
    """Read a bundle's manifest and its text files, each checked against its SHA-256.

    A variant's file is checked when it is loaded (`verify_variant`), the rest by `verify`. With
    `public_key`, a PEM file, the signature is checked before anything else is read, and then every file.

    Raises:
        BundleError: the folder or a file is missing, damaged or disagrees with the manifest, or the
            manifest is not signed by the key.
        SettingsError: the key can't be used.
    """
    manifest = read_manifest(path, public_key)
    labels = _read_lines(path, manifest, LABELS)
    class_ids = _read_lines(path, manifest, CLASS_IDS) if CLASS_IDS in manifest.files else None
    for file, lines in ((LABELS, labels), (CLASS_IDS, class_ids)):
        if lines is not None and len(lines) != manifest.classes:
            raise BundleError(
                f"{path / file} has {len(lines)} lines, but the model has {manifest.classes} classes;"
                " build it again"
            )
    if class_ids is not None:
        repeated = len(class_ids) - len(set(class_ids))
        if repeated:
            raise BundleError(f"{path / CLASS_IDS} names {repeated} class ids twice; build the bundle again")
    seen = _read_lines(path, manifest, SEEN_IMAGES) if SEEN_IMAGES in manifest.files else ()
    bundle = Bundle(path, manifest, labels, class_ids, frozenset(seen))
    if public_key is None:
        return bundle
    verify(bundle)
    return replace(bundle, public_key=public_key)


def read_file(bundle: Bundle, name: str) -> bytes:
    """Return the bytes of one of the manifest's `files`, checked against its SHA-256.

    Raises:
        BundleError: it is missing or damaged.
    """
    return _read_checked(bundle.path, bundle.manifest, name)


def verify_variant(bundle: Bundle, name: str) -> bytes | None:
    """Check the size and SHA-256 of a variant's file and, if it is packed, the SHA-256 of what it unpacks to.

    Returns the bytes of the `.tflite` that were checked, if it is packed or the bundle signed. Otherwise
    None: the file is the `.tflite` itself, and whoever maps it shares its memory with the page cache.

    Raises:
        BundleError: it is missing or damaged, or does not unpack to the variant's `.tflite`.
    """
    variant, path = bundle.variant(name), bundle.variant_path(name)
    stored = variant.stored
    try:
        size = path.stat().st_size
        # First, so that something that only looks like a file, such as a device, is not read endlessly.
        if size != stored.bytes:
            raise BundleError(
                f"{path} has {size} bytes, but the manifest says {stored.bytes}; copy the bundle again"
            )
        content = path.read_bytes() if bundle.public_key and variant.wire is None else None
        digest = sha256_of(path if content is None else content)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}; copy the bundle again") from None
    if digest != stored.sha256:
        raise BundleError(
            f"{path} is not the file that the manifest names (SHA-256 differs); copy the bundle again"
        )
    if variant.wire is None:
        return content
    content = unpack(path, variant.bytes)
    if sha256_of(content) != variant.sha256:
        raise BundleError(
            f"{path} does not unpack to the file that the manifest names (SHA-256 differs); build the bundle"
            " again"
        )
    return content


def missing_variants(bundle: Bundle) -> tuple[str, ...]:
    """Return the variants whose files are not there, as in an image that includes only some of them."""
    return tuple(name for name in bundle.manifest.variants if not bundle.variant_path(name).exists())


def verify(bundle: Bundle, without: Collection[str] = ()) -> None:
    """Check every file of the folder, and that the manifest names it; the variants `without` may be missing.

    Raises:
        BundleError: a file is missing, damaged or not in the manifest.
    """
    for name in bundle.manifest.variants:
        if name not in without:
            verify_variant(bundle, name)
    for name in bundle.manifest.files:
        read_file(bundle, name)
    strangers = strangers_in(bundle.path, bundle.manifest)
    if strangers:
        raise BundleError(
            f"{bundle.path} holds files that its manifest does not name: {', '.join(strangers)}"
        )


def strangers_in(path: Path, manifest: Manifest) -> list[str]:
    """Return the names in a bundle's folder that are not in its manifest."""
    stored = (variant.stored.file for variant in manifest.variants.values())
    known = {MANIFEST, SIGNATURE, *manifest.files, *stored}
    return sorted(p.name for p in path.iterdir() if p.name not in known)


def sha256_of(content: Path | bytes) -> str:
    """Return the SHA-256 of a file or of bytes, in hex."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(path: Path, public_key: Path | None = None) -> Manifest:
    """Return a bundle's manifest; with `public_key`, the signature is checked before it is read.

    Raises:
        BundleError: it is missing, not valid, or not signed by the key.
        SettingsError: the key can't be used.
    """
    file = path / MANIFEST
    try:
        text = file.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{file}: {error.strerror}; EDGEWISE_BUNDLE, or the command, must name a bundle's folder"
        ) from None
    if public_key is not None:
        check_signature(text, path, public_key)
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        if any(fault["loc"] == ("schema_version",) for fault in error.errors()):
            raise BundleError(
                f"{file} is not of schema version {SCHEMA_VERSION}, the only supported one; build the"
                " bundle again"
            ) from None
        raise BundleError(f"{file} is not a valid manifest: {first_fault(error)}") from None


def _read_checked(path: Path, manifest: Manifest, name: str) -> bytes:
    file = path / name
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: {error.strerror}; copy the bundle again") from None
    if sha256_of(content) != manifest.files[name]:
        raise BundleError(
            f"{file} is not the file that the manifest names (SHA-256 differs); copy the bundle again"
        )
    return content


def _read_lines(path: Path, manifest: Manifest, name: str) -> tuple[str, ...]:
    try:
        return lines_of(_read_checked(path, manifest, name).decode("utf-8"))
    except UnicodeDecodeError:
        raise BundleError(f"{path / name} is not UTF-8 text; build the bundle again") from None
