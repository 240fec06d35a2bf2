"""`python -m service check`: whether the settings and the bundle are fit to be served."""

from service.bundle import Bundle, load_bundle, verify
from service.commands.output import show
from service.commands.table import table
from service.errors import DelegateError, OperatorError
from service.inference.delegates import Fallback
from service.inference.loading import load_classifiers
from service.inference.runtime import RUNTIME
from service.settings import PREFIX, Settings


def check(settings: Settings) -> None:
    """Verify every file, load and self-test every variant, and print what would be served.

    Raises:
        StartError: something is not fit.
    """
    bundle = load_bundle(settings.bundle)
    manifest = bundle.manifest
    active = settings.variant or manifest.default_variant
    bundle.variant(active)
    verify(bundle)
    computed = {name: _load(settings, bundle, name, served=name == active) for name in manifest.variants}
    used = settings.model_copy(update={"variant": active})
    width = max(len(name) for name, _ in used)
    show("\n".join(f"{PREFIX}{name.upper():<{width}}  {value}" for name, value in used))
    show("")
    rows = [
        [name, variant.precision, f"{variant.bytes / 1e6:.1f}", "served" if name == active else ""]
        for name, variant in manifest.variants.items()
    ]
    show(table(["variant", "precision", "MB", ""], rows))
    show("")
    show(f"Taken by {settings.delegate}, under {RUNTIME}:")
    show("\n".join(f"{name}: {result}" for name, result in computed.items()))
    show("")
    show(
        f"{bundle.path}: every file is as the manifest says, and every variant that runs here passes its"
        f" self-test."
        f" Would serve {manifest.name}, variant {active}, on {settings.host}, port {settings.port}"
    )


def _load(settings: Settings, bundle: Bundle, name: str, *, served: bool) -> str:
    """What the delegate takes of a variant, or what is served instead, or why it does not run here."""
    fallback = settings.delegate_fallback if served else Fallback.NONE
    try:
        (classifier,), reason = load_classifiers(bundle, name, settings.chosen_delegate, fallback)
    except (DelegateError, OperatorError) as error:
        if served:
            raise
        return f"does not run here: {error}"
    taken = str(classifier.share)
    return f"FALLBACK, {taken} by {classifier.delegate}: {reason}" if reason else taken
