"""What is known of the images that an imported network was trained or calibrated on."""

from pathlib import Path

from service.bundle.folder import Bundle, load_bundle, sha256_of
from service.bundle.manifest import Variant
from service.errors import BundleError

# Keys of an import's recipe: the file's name, and how many images it has seen, where that is known.
IMPORTED, SEEN = "imported", "seen_images"


def knows_its_images(variant: Variant) -> bool:
    """Whether its bundle has the images that a variant has seen: all but an import that was told none."""
    recipe = variant.provenance.recipe
    return IMPORTED not in recipe or SEEN in recipe


def seen_images_of(path: Path, content: bytes, told: frozenset[str] | None) -> frozenset[str] | None:
    """The images that a file's network has seen, as the first digits of their SHA-256; None: not known.

    Those that were `told`, and those of the bundle that the file at `path` lies in as a variant.
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
