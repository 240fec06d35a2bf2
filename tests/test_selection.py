from pathlib import Path

import pytest

from service.bundle import Bundle
from service.errors import BundleError, SettingsError
from service.selection import lasting, load_variants, select
from service.settings import Settings
from tests.colours import altered
from tests.inference.test_auto import evaluation


@pytest.fixture
def measured(colours: Bundle, tmp_path: Path) -> Bundle:
    return altered(colours, tmp_path / "measured", fp32=evaluation(90), ptq=evaluation(80))


def test_a_named_variant_or_the_bundle_s_default_is_taken(colours: Bundle) -> None:
    assert select(Settings(variant="int8"), colours).active == "int8"
    assert select(Settings(), colours).active == "ptq"
    with pytest.raises(BundleError, match="no variant 'nope'"):
        select(Settings(variant="nope"), colours)


def test_auto_measures(measured: Bundle) -> None:
    selection = select(Settings(variant="auto", min_top1=0.85), measured)
    assert selection.active == "fp32"
    assert [contender.variant for contender in selection.contenders] == list(measured.manifest.variants)


@pytest.mark.parametrize(
    ("variant", "why"),
    [
        ("ptq", r"ptq can't be used: its top-1 is 0\.8000, less than 0\.85; set EDGEWISE_VARIANT or"),
        (None, "ptq can't be used"),
        ("int8", "int8 can't be used: the bundle does not tell its top-1"),
    ],
)
def test_a_minimum_holds_for_a_named_variant_too(measured: Bundle, variant: str | None, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        select(Settings(variant=variant, min_top1=0.85), measured)
    assert select(Settings(variant="fp32", min_top1=0.9), measured).active == "fp32"


def test_others_are_loaded_beside_it_each_once(colours: Bundle) -> None:
    settings = Settings(
        workers=1, variant="ptq", loaded_variants=("int8", "ptq", "int8"), variant_under_load="fp32"
    )
    assert lasting(settings) == ("int8", "ptq", "fp32")
    variants = load_variants(settings, colours)
    assert [variant.name for variant in variants.all] == ["ptq", "int8", "fp32"]
    assert variants.relief is not None
    assert variants.relief.variant is variants.loaded("fp32")
    assert variants.active is variants.loaded("ptq")


@pytest.mark.parametrize("settings", [{"loaded_variants": ("nope",)}, {"variant_under_load": "nope"}])
def test_what_the_bundle_does_not_have_is_told(colours: Bundle, settings: dict[str, object]) -> None:
    with pytest.raises(BundleError, match="no variant 'nope'"):
        load_variants(Settings.model_validate({"workers": 1, **settings}), colours)
