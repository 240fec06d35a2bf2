"""What is known about the images that an imported network was trained or calibrated on."""

from pathlib import Path

from service.bundle.folder import Bundle, load_bundle, sha256_of
from service.bundle.manifest import Variant
from service.errors import BundleError

# Keys of an import's recipe: the file's name, and how many images its network has seen, if that is known.
IMPORTED, SEEN = "imported", "seen_images"


def knows_its_images(variant: Variant) -> bool:
    """Return whether a variant's bundle lists the images it has seen: not if it was imported without them."""
    recipe = variant.provenance.recipe
    return IMPORTED not in recipe or SEEN in recipe


def seen_images_of(path: Path, content: bytes, told: frozenset[str] | None) -> frozenset[str] | None:
    """Return the images that a file's network has seen, by the first digits of their SHA-256, or None.

    These are those in `told` and, if the file at `path` is a variant of the bundle that it is in, that
    bundle's. None means that nothing is known about them.
    """
    bundle = _bundle_around(path)
    digest = sha256_of(content)
    variants = bundle.manifest.variants.values() if bundle else ()
    if bundle and any(variant.sha256 == digest and knows_its_images(variant) for variant in variants):
        return bundle.seen_images | (told or frozenset())
    return told


def _bundle_around(path: Path) -> Bundle | None:
    try:
        return load_bundle(path.parent)
    except BundleError:
        return None
