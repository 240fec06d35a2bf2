from pathlib import Path

import pytest

from service.bundle.folder import Bundle
from service.bundle.manifest import GOLDEN
from service.errors import SettingsError
from service.inference.delegates import Delegate
from service.measuring.auto import choose, measure_variants, too_inaccurate
from tests.colours import altered, archive, golden_of
from tests.evaluated import with_top1


@pytest.fixture
def measured(colours: Bundle, tmp_path: Path) -> Bundle:
    """A bundle with a top-1 of 0.9, 0.8 and 0.7, and none for `softmax`."""
    top1 = {"fp32": with_top1(90), "ptq": with_top1(80), "int8": with_top1(70)}
    return altered(colours, tmp_path / "measured", **top1)


def test_each_variant_is_measured_and_one_is_chosen(measured: Bundle) -> None:
    name, contenders = measure_variants(measured, Delegate.XNNPACK, 0.0)
    assert [c.variant for c in contenders] == list(measured.manifest.variants)
    assert {c.variant: c.top1 for c in contenders} == {"fp32": 0.9, "ptq": 0.8, "int8": 0.7, "softmax": None}
    assert all(c.p50_seconds is not None and 0 < c.p50_seconds < 1 for c in contenders)
    assert all(c.why_not is None for c in contenders)
    assert [c.duel is None for c in contenders].count(True) == 1  # The first one has none to compare with.
    assert name in measured.manifest.variants


def test_the_fastest_is_chosen(default_bundle: Bundle) -> None:
    name, contenders = measure_variants(default_bundle, Delegate.XNNPACK, 0.0)
    # The int8 variants are so much faster that other load on the machine does not hide it.
    assert name in ("ptq", "qat", "small")
    speedups = {c.variant: c.duel.speedup for c in contenders if c.duel}
    assert speedups["fp32"] < 1
    assert speedups["fp16"] < 1


def test_the_default_or_the_most_accurate_of_the_equally_fast_is_chosen() -> None:
    # Each counts as fast as the one before, but the last two not as fast as the first.
    times = {"a": (10.0, 0.7), "b": (10.9, 0.8), "c": (11.9, 0.9), "d": (13.0, 0.95)}
    assert choose(times, default="a") == "a"
    assert choose(times, default="c") == "b"
    assert choose({"slow": (10.5, 0.8), "fast": (10.0, 0.8)}, default="absent") == "fast"


def test_variants_with_a_too_low_top1_are_skipped(measured: Bundle) -> None:
    name, contenders = measure_variants(measured, Delegate.XNNPACK, 0.85)
    assert name == "fp32"
    by_name = {contender.variant: contender for contender in contenders}
    assert by_name["ptq"].why_not == "its top-1 is 0.8000, less than 0.85"
    assert by_name["softmax"].why_not == "the bundle does not state its top-1, which must be at least 0.85"
    assert by_name["ptq"].p50_seconds is by_name["softmax"].p50_seconds is None


def test_variants_that_do_not_work_here_are_skipped(measured: Bundle, tmp_path: Path) -> None:
    golden = golden_of(measured)
    golden["fp32"] = golden["fp32"] + 1
    content = {GOLDEN: archive(golden), "int8.tflite": b"no model"}
    bundle = altered(measured, tmp_path / "broken", content)
    name, contenders = measure_variants(bundle, Delegate.XNNPACK, 0.7)
    assert name == "ptq"
    by_name = {contender.variant: contender for contender in contenders}
    assert "does not compute its golden vectors" in (by_name["fp32"].why_not or "")
    assert "can't be loaded by" in (by_name["int8"].why_not or "")


def test_if_none_is_accurate_enough_the_error_names_the_best(measured: Bundle) -> None:
    with pytest.raises(SettingsError, match=r"top-1 of at least 0\.95 .*: the best, fp32, has 0\.9000"):
        measure_variants(measured, Delegate.XNNPACK, 0.95)


def test_if_none_works_the_error_has_the_reason_of_the_best(measured: Bundle, tmp_path: Path) -> None:
    damaged = {f"{name}.tflite": b"no model" for name in measured.manifest.variants}
    bundle = altered(measured, tmp_path / "broken", damaged)
    with pytest.raises(SettingsError, match=r"no variant .* can be used; the best, fp32, fails: .*can't be"):
        measure_variants(bundle, Delegate.XNNPACK, 0.5)


def test_without_a_minimum_a_bundle_needs_no_evaluation(colours: Bundle) -> None:
    assert too_inaccurate(colours.variant("fp32"), 0.0) is None
    assert too_inaccurate(colours.variant("fp32"), 0.1) is not None
