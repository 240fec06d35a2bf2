"""Which variants a command measures."""

from collections.abc import Sequence

from service.bundle.folder import Bundle, missing_variants
from service.errors import BundleError
from service.host.output import show


def variants_to_measure(bundle: Bundle, named: Sequence[str] | None) -> list[str]:
    """Return the variants that are `named`, or else all whose files are here, and show which are left out.

    Raises:
        BundleError: none is here.
    """
    if named:
        return list(named)
    missing = missing_variants(bundle)
    here = [name for name in bundle.manifest.variants if name not in missing]
    if not here:
        raise BundleError(f"{bundle.path} has none of its variants' files; copy the bundle again")
    if missing:
        show(f"Left out, since {bundle.path} lacks their files: {', '.join(missing)}\n")
    return here
