import pytest

from service.bundle import Bundle
from service.errors import BundleError, UnknownVariant
from service.inference.delegates import Delegate
from service.inference.variants import Variants, load_variant


@pytest.fixture
def variants(colours: Bundle) -> Variants:
    return Variants(colours, load_variant(colours, "fp32", workers=2, delegate=Delegate.NONE))


def test_what_is_loaded_says_what_it_runs_on(variants: Variants) -> None:
    active = variants.active
    assert active.name == "fp32"
    assert len(active.classifiers) == 2
    assert active.delegate == Delegate.NONE
    assert (active.share.operators, active.share.taken, active.share.partitions) == (3, 0, 0)
    assert active.fallback is None
    assert active.runtime.startswith("ai-edge-litert ")


def test_a_request_that_names_none_gets_the_active_one(variants: Variants) -> None:
    assert variants.choose(None) is variants.active
    assert variants.choose("fp32") is variants.active
    assert variants.loaded("fp32") is variants.active
    assert variants.loaded("ptq") is None


@pytest.mark.parametrize(("name", "reason"), [("ptq", "is not loaded"), ("nope", "is not in the bundle")])
def test_a_variant_that_is_not_there_is_told_apart(variants: Variants, name: str, reason: str) -> None:
    with pytest.raises(UnknownVariant, match=f"{reason}; loaded: fp32"):
        variants.choose(name)


def test_an_unknown_variant_is_not_loaded(colours: Bundle) -> None:
    with pytest.raises(BundleError, match="no variant 'nope'; it has: fp32, int8, ptq, softmax"):
        load_variant(colours, "nope", workers=1)
