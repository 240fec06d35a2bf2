"""`python -m service check`: checks that the settings and the bundle are fit to be served."""

from collections.abc import Sequence

from service.admin import read_token
from service.bundle.folder import Bundle, load_bundle, missing_variants, verify
from service.bundle.manifest import Variant
from service.bundle.reference import read_reference
from service.commands.table import table
from service.errors import DelegateError, OperatorError
from service.host.output import show
from service.inference.delegates import Fallback
from service.inference.loading import load_variant
from service.inference.runtime import RUNTIME
from service.keys import load_keys
from service.measuring.auto import Contender
from service.selection import lasting, load_shadow, select, without_effect
from service.server.listener import check_host
from service.server.tls import load_tls
from service.settings import PREFIX, Settings


def check(settings: Settings) -> None:
    """Verify every file, load and self-test every variant, and print what would be served.

    A variant whose file is missing is only listed, unless the settings need it or the bundle must be signed.

    Raises:
        StartError: something would stop the start.
    """
    bundle = load_bundle(settings.bundle, settings.bundle_public_key)
    manifest = bundle.manifest
    if settings.admin_token_file:
        read_token(settings.admin_token_file)
    if settings.api_keys_file:
        load_keys(settings.api_keys_file)
    load_tls(settings)
    check_host(settings)
    missing = missing_variants(bundle)
    verify(bundle, without=missing)
    read_reference(bundle)
    selection = select(settings, bundle)
    # Loaded for its errors only: it may run on another delegate than the variants in the table.
    load_shadow(settings, bundle)
    active = selection.active
    served = dict.fromkeys(lasting(settings), "loaded") | {active: "served"}
    roles = ({settings.shadow_variant: "shadow"} if settings.shadow_ratio else {}) | served
    computed = {
        name: _load(settings, bundle, name, served=name in served)
        for name in manifest.variants
        if name in served or name not in missing
    }
    # What the bundle decides if they are not set. `auto` stays: the table of contenders shows its choice.
    decided = {"model_name": settings.model_name or manifest.name}
    used = settings.model_copy(update=decided | ({} if selection.contenders else {"variant": active}))
    width = max(len(name) for name, _ in used)
    show("\n".join(f"{PREFIX}{name.upper():<{width}}  {_text(value)}" for name, value in used))
    show("")
    rows = [
        [name, variant.precision, _size(variant), roles.get(name, "not here" if name in missing else "")]
        for name, variant in manifest.variants.items()
    ]
    show(table(["variant", "precision", "MB", ""], rows))
    show("")
    if selection.contenders:
        header = ["auto", "top-1 %", "p50 ms", "speed", "why not"]
        show(table(header, [_row(contender) for contender in selection.contenders]))
        show("")
    for told in without_effect(settings, selection):
        show(f"{told}\n")
    show(f"Taken by {settings.delegate}, under {RUNTIME}:")
    show("\n".join(f"{name}: {result}" for name, result in computed.items()))
    show("")
    show(
        f"{bundle.path}: {_verified(settings, bundle, missing)}, and every variant that runs here passes its"
        " self-test."
        f" Would serve {manifest.name}, variant {active}, on {settings.host}, port {settings.port}"
    )


def _load(settings: Settings, bundle: Bundle, name: str, *, served: bool) -> str:
    """Return what the delegate takes of a variant, its fallback, or why it does not run here."""
    fallback = settings.delegate_fallback if served else Fallback.NONE
    try:
        loaded = load_variant(bundle, name, settings.chosen_delegate, fallback)
    except (DelegateError, OperatorError) as error:
        if served:
            raise
        return f"does not run here: {error}"
    taken = str(loaded.share)
    return f"FALLBACK, {taken} by {loaded.delegate}: {loaded.fallback}" if loaded.fallback else taken


def _verified(settings: Settings, bundle: Bundle, missing: Sequence[str]) -> str:
    if missing:
        absent = ", ".join(bundle.variant(name).stored.file for name in missing)
        return f"not here: {absent}; every other file matches the manifest"
    key = settings.bundle_public_key
    return "every file matches the manifest" + (f", which is signed by the key of {key}" if key else "")


def _size(variant: Variant) -> str:
    packed = f" ({variant.wire.bytes / 1e6:.1f} packed)" if variant.wire else ""
    return f"{variant.bytes / 1e6:.1f}{packed}"


def _text(value: object) -> str:
    if value in (None, "", ()):
        return "not set"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _row(contender: Contender) -> list[str]:
    top1, seconds, duel = contender.top1, contender.p50_seconds, contender.duel
    return [
        contender.variant,
        "" if top1 is None else f"{100 * top1:.2f}",
        "" if seconds is None else f"{1000 * seconds:.2f}",
        f"{duel.speedup:.2f} × {duel.against}" if duel else "",
        contender.why_not or "",
    ]
