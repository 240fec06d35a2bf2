"""Applies the settings for variants: which one answers, and which others are loaded."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from service.bundle.folder import Bundle
from service.errors import BundleError, SettingsError
from service.host.process import give_back_memory
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate
from service.inference.loading import LoadedVariant, load_variant
from service.inference.variants import UnderLoad, Variants
from service.measuring.auto import Contender, measure_variants, too_inaccurate
from service.monitoring.logs import SERVICE_LOGGER, fields
from service.settings import AUTO, Settings

_log = logging.getLogger(SERVICE_LOGGER)


@dataclass(frozen=True)
class Selection:
    """The variant that answers, and, if that was decided by measurement, the contenders."""

    active: str
    contenders: tuple[Contender, ...] = ()


def select(settings: Settings, bundle: Bundle) -> Selection:
    """Return the variant that the settings name, or the bundle's default, or for `auto` the fastest here.

    Raises:
        BundleError: the bundle lacks a variant that the settings name.
        SettingsError: the variant's top-1 is less than `min_top1`, the shadow has nothing to compare with, or
            the variant for high load is the one that answers anyway.
    """
    _check_names(settings, bundle)
    _check_shadow(settings, bundle)
    _check_under_load(settings, bundle)
    if settings.variant == AUTO:
        active, contenders = measure_variants(
            bundle, settings.chosen_delegate, settings.min_top1, settings.delegate_fallback
        )
        return Selection(active, tuple(contenders))
    active = settings.variant or bundle.manifest.default_variant
    why_not = too_inaccurate(bundle.variant(active), settings.min_top1)
    if why_not is not None:
        raise SettingsError(
            f"variant {active} can't be used: {why_not}; set EDGEWISE_VARIANT or EDGEWISE_MIN_TOP1"
        )
    return Selection(active)


def without_effect(settings: Settings, selection: Selection) -> list[str]:
    """Return, in a sentence each, which settings have no effect since `auto` chose the variant that it did.

    Not errors, as with a named variant (see `select`): on another device, or another day, the choice differs.
    """
    active, told = selection.active, []
    if _compares_nothing(settings, active):
        told.append(f"auto: {active} is also EDGEWISE_SHADOW_VARIANT, so there is nothing to compare")
    if _answers_anyway(settings, active):
        told.append(f"auto: {active} is also EDGEWISE_VARIANT_UNDER_LOAD, so nothing changes under load")
    return told


def lasting(settings: Settings) -> tuple[str, ...]:
    """Return the variants that stay loaded whichever is active, without duplicates."""
    under_load = (settings.variant_under_load,) if settings.variant_under_load else ()
    return tuple(dict.fromkeys((*settings.loaded_variants, *under_load)))


def load_variants(settings: Settings, bundle: Bundle) -> Variants:
    """Select the variant that answers, log the decision, and load all variants that the settings name.

    Raises:
        StartError: see `select` and `load`.
    """
    selection = select(settings, bundle)
    if selection.contenders:
        _log_choice(selection, settings)
        give_back_memory()
    loaded = {name: load(settings, bundle, name) for name in lasting(settings)}
    active = loaded.get(selection.active) or load(settings, bundle, selection.active)
    under_load = None
    if settings.variant_under_load:
        variant = loaded[settings.variant_under_load]
        under_load = UnderLoad(variant, settings.under_load_seconds, _under_load_logger(variant.name))
    return Variants(bundle, active, loaded.values(), under_load)


def load(settings: Settings, bundle: Bundle, name: str) -> LoadedVariant:
    """Load a variant according to the settings.

    Raises:
        StartError: it can't be loaded: see `load_variant`.
    """
    return load_variant(
        bundle,
        name,
        settings.chosen_delegate,
        settings.delegate_fallback,
        workers=settings.workers,
        limits=settings.decode_limits,
    )


def load_shadow(settings: Settings, bundle: Bundle) -> Classifier | None:
    """Load the variant that answers are compared with, once; None if none are compared.

    It runs on the CPU, wherever others run, so that it is the same on every device.

    Raises:
        StartError: it can't be loaded: see `load_variant`.
    """
    if settings.shadow_variant is None or settings.shadow_ratio == 0:
        return None
    delegate = settings.chosen_delegate
    if not delegate.is_built_in:
        delegate = Delegate.XNNPACK
    return load_variant(bundle, settings.shadow_variant, delegate).classifiers[0]


def _check_names(settings: Settings, bundle: Bundle) -> None:
    named = {
        "EDGEWISE_VARIANT": [] if settings.variant == AUTO else [settings.variant],
        "EDGEWISE_LOADED_VARIANTS": settings.loaded_variants,
        "EDGEWISE_VARIANT_UNDER_LOAD": [settings.variant_under_load],
        "EDGEWISE_SHADOW_VARIANT": [settings.shadow_variant],
    }
    for setting, names in named.items():
        for name in filter(None, names):
            try:
                bundle.variant(name)
            except BundleError as error:
                raise BundleError(f"{setting} names {name}, but {error}") from None


def _check_shadow(settings: Settings, bundle: Bundle) -> None:
    shadow, ratio = settings.shadow_variant, settings.shadow_ratio
    if shadow is None:
        if ratio:
            raise SettingsError(
                f"EDGEWISE_SHADOW_RATIO is {ratio}, but EDGEWISE_SHADOW_VARIANT, the variant to compare"
                " answers with, is not set; set both or neither"
            )
        return
    if "shadow_ratio" not in settings.model_fields_set:
        raise SettingsError(
            f"EDGEWISE_SHADOW_VARIANT is {shadow}, but EDGEWISE_SHADOW_RATIO, the share of answers to compare"
            " with it, from 0 to 1, is not set; set both or neither"
        )
    if _compares_nothing(settings, settings.variant or bundle.manifest.default_variant):
        raise SettingsError(
            f"EDGEWISE_SHADOW_VARIANT is {shadow}, the only variant that answers, so there is nothing to"
            " compare; set it or EDGEWISE_VARIANT to another one"
        )


def _check_under_load(settings: Settings, bundle: Bundle) -> None:
    if _answers_anyway(settings, settings.variant or bundle.manifest.default_variant):
        raise SettingsError(
            f"EDGEWISE_VARIANT_UNDER_LOAD is {settings.variant_under_load}, which answers anyway; set it to a"
            " faster variant, or leave it out"
        )


def _answers_anyway(settings: Settings, active: str) -> bool:
    """Return whether the variant for high load is the one that always answers."""
    return settings.admin_token_file is None and settings.variant_under_load == active


def _compares_nothing(settings: Settings, active: str) -> bool:
    """Return whether the shadow variant is the only one that can ever answer."""
    shadow = settings.shadow_variant
    others = {*lasting(settings)} - {shadow}
    return active == shadow and not others and settings.admin_token_file is None


def _log_choice(selection: Selection, settings: Settings) -> None:
    table = {
        contender.variant: {
            "top1": contender.top1,
            "p50_seconds": contender.p50_seconds and round(contender.p50_seconds, 6),
            "against": contender.duel and contender.duel.against,
            "speedup": contender.duel and round(contender.duel.speedup, 3),
            "why_not": contender.why_not,
        }
        for contender in selection.contenders
    }
    details = fields(variant=selection.active, min_top1=settings.min_top1, measured=table)
    _log.info("auto: chose %s", selection.active, extra=details)
    for told in without_effect(settings, selection):
        _log.warning(told)


def _under_load_logger(variant: str) -> Callable[[bool, float], None]:
    def log(begins: bool, wait_seconds: float) -> None:
        message = "under load: %s answers" if begins else "the load is over: %s no longer answers"
        _log.info(message, variant, extra=fields(variant=variant, wait_seconds=round(wait_seconds, 4)))

    return log
