import re
import shutil
import socket
from pathlib import Path

import pytest

from service.__main__ import main
from service.bundle.folder import Bundle
from service.bundle.manifest import REFERENCE
from service.settings import DEFAULT_BUNDLE, PREFIX, Settings
from tests.colours import altered
from tests.command_line.output import one_line
from tests.evaluated import with_top1
from tests.models import with_custom_operator


def test_check_prints_every_setting_and_what_would_be_served(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    out = capfd.readouterr().out
    assert re.findall(rf"^{PREFIX}(\w+)", out, re.MULTILINE) == [
        name.upper() for name in Settings.model_fields
    ]
    assert re.search(rf"^{PREFIX}MODEL_NAME +colours$", out, re.MULTILINE)
    # Of an optional setting, a list and a text.
    for name in ("SHADOW_VARIANT", "LOADED_VARIANTS", "DELEGATE_OPTIONS"):
        assert re.search(rf"^{PREFIX}{name} +not set$", out, re.MULTILINE)
    assert not re.search(rf"^{PREFIX}\w+ *(None)?$", out, re.MULTILINE)
    assert re.search(r"^ptq +int8 +0\.0 +served$", out, re.MULTILINE)
    assert re.search(r"^fp32 +float32 +0\.0$", out, re.MULTILINE)
    assert re.search(r"^Taken by xnnpack, under ai-edge-litert \S+:$", out, re.MULTILINE)
    assert "\nfp32: 3 of 3 operators in 1 partition\n" in out
    assert "Would serve colours, variant ptq, on 127.0.0.1, port 8000" in out


def test_check_shows_the_packed_size_of_a_variant(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(DEFAULT_BUNDLE))
    assert main(["check"]) == 0
    assert re.search(r"^small +int8 +8\.4 \(3\.5 packed\)$", capfd.readouterr().out, re.MULTILINE)


def test_check_names_variants_that_the_delegate_can_not_run(
    library: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_DELEGATE", str(library))
    monkeypatch.setenv("EDGEWISE_VARIANT", "fp32")
    assert main(["check"]) == 0
    out = capfd.readouterr().out
    assert "\nfp32: 1 of 3 operators in 1 partition; left: DEPTHWISE_CONV_2D 1, MEAN 1\n" in out
    assert re.search(
        r"^ptq: does not run here: delegate .* takes none of the \d operators", out, re.MULTILINE
    )
    monkeypatch.setenv("EDGEWISE_VARIANT", "ptq")
    assert main(["check"]) == 2
    assert "takes none of the" in one_line(capfd.readouterr().err)
    monkeypatch.setenv("EDGEWISE_DELEGATE_FALLBACK", "cpu")
    assert main(["check"]) == 0
    fallback = r"^ptq: FALLBACK, \d of \d operators in 1 partition.* by xnnpack: delegate .* takes none"
    assert re.search(fallback, capfd.readouterr().out, re.MULTILINE)


def test_check_measures_the_variants_for_auto(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_VARIANT", "auto")
    monkeypatch.setenv("EDGEWISE_LOADED_VARIANTS", "fp32,softmax")
    assert main(["check"]) == 0
    out = capfd.readouterr().out
    assert re.search(r"^EDGEWISE_VARIANT +auto$", out, re.MULTILINE)
    assert re.search(r"^EDGEWISE_LOADED_VARIANTS +fp32,softmax$", out, re.MULTILINE)
    (served,) = re.findall(r"^(\w+) +\w+ +0\.0 +served$", out, re.MULTILINE)
    loaded = set(re.findall(r"^(\w+) +\w+ +0\.0 +loaded$", out, re.MULTILINE))
    assert loaded == {"fp32", "softmax"} - {served}
    measured = re.findall(r"^(\w+) +\d+\.\d\d(?: +\d+\.\d\d × \w+)?$", out, re.MULTILINE)
    assert measured == ["fp32", "ptq", "int8", "softmax"]
    assert f"Would serve colours, variant {served}, on" in out


def test_check_reads_the_admin_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_ADMIN_TOKEN_FILE", str(tmp_path / "none"))
    assert main(["check"]) == 2
    assert "none: No such file" in one_line(capfd.readouterr().err)


def test_check_verifies_variants_that_are_not_served(
    colours: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    bundle = shutil.copytree(colours.path, tmp_path / "bundle")
    (bundle / "int8.tflite").write_bytes(b"something else")
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(bundle))
    assert main(["check"]) == 2
    assert "int8.tflite has 14 bytes, but the manifest says" in one_line(capfd.readouterr().err)


def test_check_verifies_the_drift_reference(
    colours: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = altered(colours, tmp_path / "bundle", {REFERENCE: b"{}"})
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(bundle.path))
    assert main(["check"]) == 2
    assert REFERENCE in one_line(capfd.readouterr().err)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("EDGEWISE_VARIANT", "nope", "no variant 'nope'; it has: fp32, int8, ptq, softmax"),
        ("EDGEWISE_PROT", "80", "the nearest is EDGEWISE_PORT"),
        ("EDGEWISE_DELEGATE", "tpu", "should be one of xnnpack, none, edgetpu, nnapi, gpu, or the absolute"),
        ("EDGEWISE_DELEGATE", "nnapi", "delegate nnapi exists only on Android"),
        ("EDGEWISE_HOST", "a..b", "can't listen on a..b:8000: not a valid host name"),
        ("EDGEWISE_HOST", "192.0.2.1", "can't listen on 192.0.2.1:8000: "),
    ],
)
def test_check_reports_an_error_in_one_line(
    name: str,
    value: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    assert main(["check"]) == 2
    captured = capfd.readouterr()
    assert message in one_line(captured.err)
    assert captured.out == ""


@pytest.mark.parametrize(("ratio", "status"), [("1", 2), ("0", 0)])
def test_a_shadow_that_does_not_run_here_fails_the_check(
    ratio: str,
    status: int,
    colours: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = with_custom_operator(colours.variant_path("fp32").read_bytes(), "edgetpu-custom-op")
    bundle = altered(colours, tmp_path / "bundle", {"fp32.tflite": model})
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(bundle.path))
    monkeypatch.setenv("EDGEWISE_SHADOW_VARIANT", "fp32")
    monkeypatch.setenv("EDGEWISE_SHADOW_RATIO", ratio)
    assert main(["check"]) == status
    captured = capfd.readouterr()
    if status:
        assert "fp32.tflite needs the operator edgetpu-custom-op" in one_line(captured.err)
    else:
        assert "\nfp32: does not run here: " in captured.out


def test_a_service_that_runs_already_does_not_fail_the_check(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as running:
        port = running.getsockname()[1]
        monkeypatch.setenv("EDGEWISE_PORT", str(port))
        assert main(["check"]) == 0
    assert f"on 127.0.0.1, port {port}" in capfd.readouterr().out


def test_check_warns_of_settings_that_auto_leaves_without_effect(
    colours: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = altered(colours, tmp_path / "bundle", fp32=with_top1(90))
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(bundle.path))
    monkeypatch.setenv("EDGEWISE_VARIANT", "auto")
    monkeypatch.setenv("EDGEWISE_MIN_TOP1", "0.85")
    monkeypatch.setenv("EDGEWISE_VARIANT_UNDER_LOAD", "fp32")
    assert main(["check"]) == 0
    told = "\n\nauto: fp32 is also EDGEWISE_VARIANT_UNDER_LOAD, so nothing changes under load\n\n"
    assert told in capfd.readouterr().out
