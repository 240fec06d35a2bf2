import shutil
from pathlib import Path

import pytest

from service.bundle.folder import Bundle, load_bundle
from service.errors import BundleError, DelegateError, SelfTestError
from service.inference.delegates import Delegate, Fallback, parse_delegate
from service.inference.loading import load_variant
from tests.colours import altered
from tests.delegates import external


def test_a_working_delegate_is_loaded_for_each_worker(colours: Bundle, library: Path) -> None:
    for delegate in (Delegate.XNNPACK, Delegate.NONE, external(library)):
        loaded = load_variant(colours, "fp32", delegate, Fallback.CPU, workers=2)
        assert [classifier.delegate for classifier in loaded.classifiers] == [delegate] * 2
        assert loaded.fallback is None


@pytest.mark.parametrize(
    ("mode", "error", "message"),
    [
        ("refuse", DelegateError, "no accelerator is plugged in"),
        ("crash", DelegateError, "SIGABRT"),
        ("nothing", DelegateError, "takes none of the 3 operators"),
        ("wrong", SelfTestError, "golden vectors"),
    ],
)
def test_the_cpu_is_the_fallback_only_if_allowed(
    colours: Bundle, library: Path, mode: str, error: type[Exception], message: str
) -> None:
    delegate = external(library, mode)
    with pytest.raises(error, match=message):
        load_variant(colours, "fp32", delegate, Fallback.NONE)
    loaded = load_variant(colours, "fp32", delegate, Fallback.CPU)
    assert loaded.delegate == Delegate.XNNPACK
    assert loaded.fallback is not None
    assert message in loaded.fallback


def test_a_named_delegate_falls_back_too(colours: Bundle) -> None:
    loaded = load_variant(colours, "fp32", parse_delegate("nnapi"), Fallback.CPU)
    assert loaded.delegate == Delegate.XNNPACK
    assert loaded.fallback is not None
    assert loaded.fallback.startswith("delegate nnapi exists only on Android")


def test_no_delegate_is_tried_on_a_replaced_file(colours: Bundle, library: Path, tmp_path: Path) -> None:
    bundle = load_bundle(Path(shutil.copytree(colours.path, tmp_path / "bundle")))
    # After it was read, another valid bundle with its own manifest took its place.
    other = {"int8.tflite": colours.variant_path("softmax").read_bytes()}
    altered(colours, bundle.path, other)
    with pytest.raises(BundleError, match=r"int8\.tflite"):
        load_variant(bundle, "int8", external(library, "crash"))
