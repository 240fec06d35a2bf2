"""`python -m service check`: whether the settings and the bundle are fit to be served."""

from service.bundle import load_bundle, verify
from service.commands.output import show
from service.commands.table import table
from service.inference.classifier import Classifier
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
    for name in manifest.variants:
        Classifier(bundle, name, settings.delegate)
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
    show(
        f"{bundle.path}: every file is as the manifest says, and every variant passes its self-test here."
        f" Would serve {manifest.name}, variant {active}, on {settings.host}, port {settings.port}"
    )
