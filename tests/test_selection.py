from pathlib import Path

import pytest

from service.bundle.folder import Bundle
from service.errors import BundleError, SettingsError
from service.inference.delegates import Delegate, Kind
from service.selection import lasting, load_shadow, load_variants, select
from service.settings import Settings
from tests.colours import altered
from tests.evaluated import with_top1


@pytest.fixture
def measured(colours: Bundle, tmp_path: Path) -> Bundle:
    return altered(colours, tmp_path / "measured", fp32=with_top1(90), ptq=with_top1(80))


def test_the_named_variant_or_the_bundle_s_default_is_selected(colours: Bundle) -> None:
    assert select(Settings(variant="int8"), colours).active == "int8"
    assert select(Settings(), colours).active == "ptq"
    with pytest.raises(BundleError, match="no variant 'nope'"):
        select(Settings(variant="nope"), colours)


def test_auto_measures_every_variant(measured: Bundle) -> None:
    selection = select(Settings(variant="auto", min_top1=0.85), measured)
    assert selection.active == "fp32"
    assert [contender.variant for contender in selection.contenders] == list(measured.manifest.variants)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("ptq", r"ptq can't be used: its top-1 is 0\.8000, less than 0\.85; set EDGEWISE_VARIANT or"),
        (None, "ptq can't be used"),
        ("int8", "int8 can't be used: the bundle does not state its top-1"),
    ],
)
def test_the_minimum_top1_holds_for_a_named_variant_too(
    measured: Bundle, variant: str | None, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        select(Settings(variant=variant, min_top1=0.85), measured)
    assert select(Settings(variant="fp32", min_top1=0.9), measured).active == "fp32"


def test_further_variants_are_loaded_once_each(colours: Bundle) -> None:
    settings = Settings(
        workers=1, variant="ptq", loaded_variants=("int8", "ptq", "int8"), variant_under_load="fp32"
    )
    assert lasting(settings) == ("int8", "ptq", "fp32")
    variants = load_variants(settings, colours)
    assert [variant.name for variant in variants.all] == ["ptq", "int8", "fp32"]
    assert variants.under_load is not None
    assert variants.under_load.variant is variants.loaded("fp32")
    assert variants.active is variants.loaded("ptq")


@pytest.mark.parametrize("settings", [{"loaded_variants": ("nope",)}, {"variant_under_load": "nope"}])
def test_an_unknown_variant_is_refused(colours: Bundle, settings: dict[str, object]) -> None:
    with pytest.raises(BundleError, match="no variant 'nope'"):
        load_variants(Settings.model_validate({"workers": 1, **settings}), colours)


def test_a_shadow_is_loaded_only_if_its_ratio_is_positive(colours: Bundle) -> None:
    settings = Settings(workers=2, shadow_variant="fp32", shadow_ratio=0.5)
    assert select(settings, colours).active == "ptq"
    shadow = load_shadow(settings, colours)
    assert shadow is not None
    assert (shadow.variant, shadow.delegate) == ("fp32", Delegate.XNNPACK)
    assert load_shadow(Settings(), colours) is None
    off = Settings(shadow_variant="fp32", shadow_ratio=0)
    assert select(off, colours).active == "ptq"
    assert load_shadow(off, colours) is None


def test_the_shadow_runs_on_the_cpu_whatever_the_delegate(colours: Bundle, library: Path) -> None:
    for setting, expected in [(library, Delegate.XNNPACK), ("none", Delegate(Kind.NONE))]:
        settings = Settings(delegate=setting, shadow_variant="fp32", shadow_ratio=1)
        shadow = load_shadow(settings, colours)
        assert shadow is not None
        assert shadow.delegate == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"shadow_variant": "fp32"},
            "EDGEWISE_SHADOW_VARIANT is fp32, but EDGEWISE_SHADOW_RATIO, .* not set",
        ),
        ({"shadow_ratio": 0.5}, r"EDGEWISE_SHADOW_RATIO is 0\.5, but EDGEWISE_SHADOW_VARIANT, .* not set"),
        ({"shadow_variant": "ptq", "shadow_ratio": 1}, "is ptq, the only variant that answers"),
        ({"variant": "fp32", "shadow_variant": "fp32", "shadow_ratio": 1}, "is fp32, the only variant"),
        (
            {"shadow_variant": "ptq", "shadow_ratio": 1, "loaded_variants": ("ptq",)},
            "is ptq, the only variant that answers",
        ),
    ],
)
def test_a_shadow_with_nothing_to_compare_is_refused(
    colours: Bundle, given: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        select(Settings.model_validate(given), colours)


def test_the_active_variant_is_refused_as_the_one_under_load(colours: Bundle) -> None:
    for given in ({"variant": "fp32", "variant_under_load": "fp32"}, {"variant_under_load": "ptq"}):
        with pytest.raises(SettingsError, match="which answers anyway"):
            select(Settings.model_validate(given), colours)
        # With a token, another variant can become active.
        select(Settings.model_validate({**given, "admin_token_file": Path("token")}), colours)


@pytest.mark.parametrize(
    "given",
    [
        {"loaded_variants": ("int8",)},
        {"variant_under_load": "int8"},
        {"admin_token_file": Path("token")},
        {"variant": "auto"},
    ],
)
def test_the_shadow_can_be_the_active_variant_if_others_may_answer(
    colours: Bundle, given: dict[str, object]
) -> None:
    select(Settings.model_validate({"shadow_variant": "ptq", "shadow_ratio": 1, **given}), colours)


def test_an_unknown_shadow_variant_is_refused(colours: Bundle) -> None:
    with pytest.raises(BundleError, match=r"^EDGEWISE_SHADOW_VARIANT names nope, but .* no variant 'nope'"):
        select(Settings(shadow_variant="nope", shadow_ratio=1), colours)


@pytest.mark.parametrize(("shadow", "is_warned"), [("fp32", True), ("ptq", False)])
def test_auto_warns_if_it_selects_the_shadow_variant(
    measured: Bundle, caplog: pytest.LogCaptureFixture, shadow: str, *, is_warned: bool
) -> None:
    settings = Settings(variant="auto", min_top1=0.85, workers=1, shadow_variant=shadow, shadow_ratio=1)
    assert load_variants(settings, measured).active.name == "fp32"
    assert ("there is nothing to compare" in caplog.text) == is_warned


@pytest.mark.parametrize(("given", "is_warned"), [({}, True), ({"admin_token_file": Path("token")}, False)])
def test_auto_warns_if_it_selects_the_variant_for_a_high_load(
    measured: Bundle, caplog: pytest.LogCaptureFixture, given: dict[str, object], *, is_warned: bool
) -> None:
    for variant, is_without_effect in (("fp32", True), ("ptq", False)):
        caplog.clear()
        both = {"variant": "auto", "min_top1": 0.85, "workers": 1, "variant_under_load": variant}
        assert load_variants(Settings.model_validate({**both, **given}), measured).active.name == "fp32"
        assert ("nothing changes under load" in caplog.text) == (is_warned and is_without_effect)
