"""Named delegates and a real external one, on a small real model."""

import contextlib
import ctypes
import platform
import re
import sys
from pathlib import Path

import pytest

from service.bundle.folder import Bundle
from service.errors import DelegateError, OperatorError, SelfTestError
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate, Kind, parse_delegate
from service.inference.footprint import measure_footprint, try_out
from service.inference.interpreter import Interpreter
from tests.colours import RGB, altered, golden_pixels
from tests.delegates import compile_delegate, external
from tests.models import with_custom_operator, with_newer_operator

ROOT = Path(__file__).parents[2]
# The model has DEPTHWISE_CONV_2D, MEAN and FULLY_CONNECTED; the external delegate takes the last.
OTHERS = {"DEPTHWISE_CONV_2D": 1, "MEAN": 1}
# The byte of a library that names its processor, and its values for two processors.
MACHINE, X86_64, AARCH64 = 18, 62, 183


def test_a_delegate_is_given_by_its_name_or_its_path() -> None:
    assert parse_delegate("edgetpu") == Delegate(Kind.EDGETPU)
    delegate = parse_delegate("/lib/a.so", "a=1,b=x=y")
    assert delegate == Delegate(Path("/lib/a.so"), (("a", "1"), ("b", "x=y")))
    assert parse_delegate(*delegate.arguments) == delegate
    assert [str(d) for d in (Delegate.XNNPACK, Delegate.NONE, delegate)] == ["xnnpack", "none", "/lib/a.so"]
    assert [d.is_built_in for d in (Delegate.XNNPACK, Delegate.NONE, delegate)] == [True, True, False]


def test_the_table_in_the_documents_has_every_named_delegate() -> None:
    text = (ROOT / "docs" / "delegates.md").read_text()
    assert re.findall(r"^\| `([a-z]+)` \|", text, re.MULTILINE)[: len(Kind)] == list(Kind)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("xnpack", "", "should be one of xnnpack, none, edgetpu, nnapi, gpu, or the absolute path"),
        ("lib/a.so", "", "the absolute path"),
        ("", "", "the absolute path"),
        ("/a.so", "a", "should be key=value,key=value; 'a' is not"),
        ("/a.so", "=b", "'=b' is not"),
        ("/a.so", "a=1,", "'' is not"),
        ("/a.so", "a=1,a=2", "'a' is given twice"),
    ],
)
def test_an_invalid_delegate_is_refused_with_the_reason(name: str, options: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_delegate(name, options)


def test_an_external_delegate_computes_its_share(colours: Bundle, library: Path) -> None:
    classifier = Classifier(colours, "fp32", external(library))
    assert classifier.share.partitions == 1
    assert (classifier.share.taken, classifier.share.operators) == (1, 3)
    assert classifier.share.left == OTHERS
    for pixels, name in zip(golden_pixels(), RGB, strict=False):
        assert colours.labels[int(classifier.scores(pixels).argmax())] == name


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("refuse", "delegate .*so refuses with mode=refuse: no accelerator is plugged in; is its device"),
        ("nothing", r"delegate .*so takes none of the 3 operators of .*fp32\.tflite: use a variant"),
        ("fail-prepare", r"delegate .*so fails with .*tflite: the accelerator is of another generation; use"),
    ],
)
def test_a_delegate_that_fails_is_reported(colours: Bundle, library: Path, mode: str, message: str) -> None:
    with pytest.raises(DelegateError, match=message) as caught:
        Classifier(colours, "fp32", external(library, mode))
    assert "\n" not in str(caught.value)


def test_an_option_that_the_delegate_does_not_know_is_reported(colours: Bundle, library: Path) -> None:
    with pytest.raises(DelegateError, match=r"refuses with depth=3: there is no option depth"):
        Classifier(colours, "fp32", parse_delegate(str(library), "depth=3"))


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("wrong", r"fp32\.tflite \(/.*so\) does not compute its golden vectors on this device: .* is 1 "),
        ("fail-invoke", r"fp32\.tflite \(/.*so\) fails on its golden vectors: the accelerator lost power"),
    ],
)
def test_a_delegate_that_computes_wrong_values_is_caught(
    colours: Bundle, library: Path, mode: str, message: str
) -> None:
    with pytest.raises(SelfTestError, match=message):
        Classifier(colours, "fp32", external(library, mode))


@pytest.mark.parametrize("mode", ["crash", "crash-prepare", "crash-invoke"])
def test_a_crash_in_a_separate_process_is_reported(colours: Bundle, library: Path, mode: str) -> None:
    delegate = external(library, mode)
    for load in (try_out, measure_footprint):
        with pytest.raises(DelegateError, match=r"so crashed the process .* fp32 with it \(SIGABRT\); use"):
            load(colours, "fp32", delegate)


def test_a_delegate_that_hangs_does_not_hang_the_start(colours: Bundle, library: Path) -> None:
    with pytest.raises(DelegateError, match=r"so did not load fp32 within 1 seconds; use another"):
        try_out(colours, "fp32", external(library, "hang"), max_seconds=1)


def test_trying_out_reports_only_crashes(colours: Bundle, library: Path) -> None:
    try_out(colours, "fp32", external(library))
    try_out(colours, "fp32", external(library, "refuse"))
    for mode in ("compute", "talk"):
        assert measure_footprint(colours, "fp32", external(library, mode)).load_seconds > 0


def test_a_missing_library_is_reported(colours: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DelegateError, match=r"nope\.so: cannot open shared object file: No such file"):
        Classifier(colours, "fp32", external(tmp_path / "nope.so"))
    with pytest.raises(DelegateError, match="is a folder, not a library"):
        Classifier(colours, "fp32", external(tmp_path))


def test_a_file_that_is_no_library_is_reported(colours: Bundle, tmp_path: Path) -> None:
    (tmp_path / "a.so").write_text("#!/bin/sh\n")
    with pytest.raises(DelegateError, match=r"can't be loaded: .*a\.so: (file too short|invalid ELF header)"):
        Classifier(colours, "fp32", external(tmp_path / "a.so"))


def test_a_library_for_another_processor_is_reported(colours: Bundle, library: Path, tmp_path: Path) -> None:
    content = bytearray(library.read_bytes())
    content[MACHINE] = X86_64 if content[MACHINE] == AARCH64 else AARCH64
    (tmp_path / "a.so").write_bytes(content)
    message = rf"a\.so exists, but not for this machine's processor \({platform.machine()}\)"
    with pytest.raises(DelegateError, match=message):
        Classifier(colours, "fp32", external(tmp_path / "a.so"))


@pytest.mark.filterwarnings("error")
def test_a_library_that_is_no_delegate_is_reported(
    colours: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    incomplete = compile_delegate(tmp_path / "incomplete.so", "-DINCOMPLETE")
    with pytest.raises(DelegateError, match="has no symbol tflite_plugin_create_delegate"):
        Classifier(colours, "fp32", external(incomplete))
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(sys.platform != "linux", reason="the loader's messages are Linux's")
@pytest.mark.parametrize(
    ("name", "library", "advice"),
    [
        ("edgetpu", "libedgetpu.so.1", "install Coral's Edge TPU runtime, or mount"),
        ("gpu", "libtensorflowlite_gpu_delegate.so", "the slim image .* mount it"),
    ],
)
def test_a_named_delegate_says_what_it_needs(colours: Bundle, name: str, library: str, advice: str) -> None:
    with contextlib.suppress(OSError):
        ctypes.CDLL(library)
        pytest.skip(f"{library} is installed here")
    message = f"delegate {name} can't be loaded: {library}: cannot open .*; .*{advice}"
    with pytest.raises(DelegateError, match=message):
        Classifier(colours, "fp32", parse_delegate(name))


def test_nnapi_is_refused_outside_android(colours: Bundle) -> None:
    with pytest.raises(
        DelegateError, match=f"nnapi exists only on Android, and this is {platform.system()}: use"
    ):
        Classifier(colours, "fp32", parse_delegate("nnapi"))


def test_the_error_of_a_model_for_the_edge_tpu_names_its_delegate(
    colours: Bundle, library: Path, tmp_path: Path
) -> None:
    model = with_custom_operator(colours.variant_path("fp32").read_bytes(), "edgetpu-custom-op")
    bundle = altered(colours, tmp_path / "bundle", {"fp32.tflite": model})
    message = (
        r"fp32\.tflite needs the operator edgetpu-custom-op, which neither ai-edge-litert \S+ nor delegate"
    )
    for delegate in (Delegate.XNNPACK, Delegate.NONE):
        with pytest.raises(
            OperatorError, match=f"{message} {delegate} has: .* set EDGEWISE_DELEGATE=edgetpu"
        ):
            Classifier(bundle, "fp32", delegate)
    with pytest.raises(OperatorError, match=f"{message} .*so has: use the delegate that it was made for"):
        Classifier(bundle, "fp32", external(library))


def test_the_error_of_a_newer_operator_names_it(colours: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "new.tflite"
    path.write_bytes(with_newer_operator(colours.variant_path("fp32").read_bytes(), 99))
    with pytest.raises(OperatorError, match=r"the operator FULLY_CONNECTED in version 99, which ai-edge-lit"):
        Interpreter(path)
