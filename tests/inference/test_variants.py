import time
import weakref

import pytest

from service.bundle.folder import Bundle
from service.errors import BundleError, UnknownVariant, VariantNotLoaded
from service.images.pixels import Crop
from service.inference.delegates import Delegate
from service.inference.job import Job
from service.inference.loading import LoadedVariant, load_variant
from service.inference.pool import Pool
from service.inference.variants import UnderLoad, Variants
from tests.api.running import photo
from tests.system.processes import wait_for


@pytest.fixture
def fp32(colours: Bundle) -> LoadedVariant:
    return load_variant(colours, "fp32", workers=2, delegate=Delegate.NONE)


@pytest.fixture
def ptq(colours: Bundle) -> LoadedVariant:
    return load_variant(colours, "ptq", workers=2)


def test_a_loaded_variant_says_what_it_runs_on(fp32: LoadedVariant) -> None:
    assert fp32.name == "fp32"
    assert len({classifier._interpreter for classifier in fp32.classifiers}) == 2
    assert fp32.delegate == Delegate.NONE
    assert (fp32.share.operators, fp32.share.taken, fp32.share.partitions) == (3, 0, 0)
    assert fp32.fallback is None


def test_a_request_without_a_variant_gets_the_active_one(colours: Bundle, fp32: LoadedVariant) -> None:
    variants = Variants(colours, fp32)
    assert variants.find(None) is None
    assert variants.choose(None, wait_seconds=1000) is fp32
    assert variants.find("fp32") is fp32
    assert variants.choose(fp32, wait_seconds=1000) is fp32
    assert variants.loaded("ptq") is None


def test_unknown_and_unloaded_variants_have_different_errors(colours: Bundle, fp32: LoadedVariant) -> None:
    variants = Variants(colours, fp32)
    with pytest.raises(UnknownVariant, match="no variant 'nope'; it has: fp32, int8, ptq, softmax"):
        variants.find("nope")
    with pytest.raises(VariantNotLoaded, match=r"'ptq' is not loaded, only fp32; .* PUT /v1/variants/active"):
        variants.find("ptq")


def test_several_variants_can_be_loaded_and_requested(
    colours: Bundle, fp32: LoadedVariant, ptq: LoadedVariant
) -> None:
    variants = Variants(colours, fp32, [ptq])
    assert variants.all == (fp32, ptq)
    assert variants.find("ptq") is ptq
    assert variants.choose(None, 0) is fp32
    with pytest.raises(VariantNotLoaded, match="only fp32, ptq;"):
        variants.find("int8")


def test_a_switch_unloads_the_active_variant_unless_it_is_to_stay(
    colours: Bundle, fp32: LoadedVariant, ptq: LoadedVariant
) -> None:
    variants = Variants(colours, fp32, [ptq])
    variants.activate(ptq)
    assert variants.all == (ptq,)
    assert variants.choose(None, 0) is ptq
    assert variants.loaded("fp32") is None
    variants.activate(fp32)
    assert variants.all == (fp32, ptq)


def test_an_idle_worker_keeps_no_variant_in_memory(colours: Bundle) -> None:
    pool = Pool(1, queue_size=10, queue_bytes=1_000_000)
    try:
        variant = load_variant(colours, "ptq", workers=1)
        reference = weakref.ref(variant)
        future = pool.submit(Job(variant, photo("red"), Crop.BUNDLE, time.monotonic() + 60))
        del variant
        assert future.result(60).prediction.variant == "ptq"
        wait_for(lambda: reference() is None)
    finally:
        pool.close()


def test_under_load_begins_above_the_waiting_time_and_ends_below_half(
    colours: Bundle, fp32: LoadedVariant, ptq: LoadedVariant
) -> None:
    changes: list[tuple[bool, float]] = []
    under_load = UnderLoad(ptq, 0.1, lambda *change: changes.append(change))
    variants = Variants(colours, fp32, [ptq], under_load)
    waits = [0.0, 0.09, 0.1, 0.11, 0.2, 0.06, 0.05, 0.04, 0.09]
    chosen = [variants.choose(None, wait).name for wait in waits]
    assert chosen == ["fp32"] * 3 + ["ptq"] * 4 + ["fp32"] * 2
    assert changes == [(True, 0.11), (False, 0.04)]


def test_under_load_begins_with_a_refused_image_and_lasts_a_while(
    colours: Bundle, fp32: LoadedVariant, ptq: LoadedVariant
) -> None:
    under_load = UnderLoad(ptq, 0.1, lambda *_: None)
    variants = Variants(colours, fp32, [ptq], under_load)
    assert variants.choose(None, 0.0) is fp32
    under_load.refused()
    assert variants.choose(None, 0.0) is ptq
    wait_for(lambda: variants.choose(None, 0.0) is fp32)


def test_load_changes_nothing_if_its_variant_is_the_active_one(colours: Bundle, ptq: LoadedVariant) -> None:
    changes: list[bool] = []
    variants = Variants(colours, ptq, [ptq], UnderLoad(ptq, 0.1, lambda begins, _: changes.append(begins)))
    assert variants.choose(None, 1) is ptq
    assert not variants.is_under_load(1)
    assert not changes


def test_a_request_that_names_a_variant_gets_it_under_load_too(
    colours: Bundle, fp32: LoadedVariant, ptq: LoadedVariant
) -> None:
    variants = Variants(colours, fp32, [ptq], UnderLoad(ptq, 0.1, lambda *_: None))
    assert variants.choose(variants.find("fp32"), 1) is fp32
    assert variants.choose(None, 1) is ptq


def test_an_unknown_variant_is_not_loaded(colours: Bundle) -> None:
    with pytest.raises(BundleError, match="no variant 'nope'; it has: fp32, int8, ptq, softmax"):
        load_variant(colours, "nope", workers=1)
