"""What is known about the images that a network from elsewhere was trained or calibrated on."""

from dataclasses import dataclass
from pathlib import Path

from service.bundle.folder import Bundle, load_bundle, sha256_of
from service.bundle.manifest import IMPORTED, SEEN, Provenance
from service.errors import BundleError


@dataclass(frozen=True)
class SeenImages:
    """The images that a network has seen, by the first digits of their SHA-256.

    `known`: whether these are all of them, as far as anyone said; otherwise there may be any others.
    """

    images: frozenset[str]
    known: bool


def origin_of(provenance: Provenance) -> dict[str, str | int | float | bool]:
    """Return the keys of a recipe that say that the network comes from elsewhere, which few have."""
    return {key: value for key, value in provenance.recipe.items() if key in (IMPORTED, SEEN)}


def seen_images_of(path: Path, content: bytes, listed: frozenset[str] | None) -> SeenImages:
    """Return the images that a file's network has seen.

    These are those in `listed`, if that is not None, and, if the file at `path` is a variant of the bundle
    that it is in, that bundle's.
    """
    bundle = _bundle_around(path)
    digest = sha256_of(content)
    variants = bundle.manifest.variants.values() if bundle else ()
    own = [variant.provenance for variant in variants if variant.sha256 == digest]
    return SeenImages(
        images=(listed or frozenset()) | (bundle.seen_images if bundle and own else frozenset()),
        known=listed is not None or any(made.knows_its_images for made in own),
    )


def _bundle_around(path: Path) -> Bundle | None:
    try:
        return load_bundle(path.parent)
    except BundleError:
        return None
