"""The commands with a bundle that lacks the files of some variants, as an image with only some does."""

import re
import shutil
from pathlib import Path

import pytest

from service.__main__ import main
from service.bundle.folder import Bundle
from service.bundle.manifest import GOLDEN
from tests.command_line.output import one_line
from tests.signed import make_key_pair, signed_copy

HERE = ["ptq", "softmax"]


@pytest.fixture
def partial(colours: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The colour classifier's bundle without two of its variants; the commands take it."""
    path = shutil.copytree(colours.path, tmp_path / "partial")
    for name in ("fp32", "int8"):
        (path / f"{name}.tflite").unlink()
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(path))
    return path


def test_check_lists_what_is_missing_and_what_would_be_served(
    partial: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["check"]) == 0
    out = capfd.readouterr().out
    assert re.findall(r"^(\w+) .* not here$", out, re.MULTILINE) == ["fp32", "int8"]
    assert re.findall(r"^(\w+): \d of \d operators", out, re.MULTILINE) == HERE
    told = f"{partial}: not here: fp32.tflite, int8.tflite; every other file matches the manifest, and every"
    assert told in out
    assert "Would serve colours, variant ptq, on" in out


def test_check_measures_the_variants_that_are_here(
    partial: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_VARIANT", "auto")
    assert main(["check"]) == 0
    out = capfd.readouterr().out
    assert re.findall(r"^(\w+) .* not here$", out, re.MULTILINE) == ["fp32", "int8"]
    assert re.search(r"Would serve colours, variant (ptq|softmax), on", out)


@pytest.mark.parametrize(
    "needing",
    [
        {"VARIANT": "fp32"},
        {"LOADED_VARIANTS": "ptq,fp32"},
        {"VARIANT_UNDER_LOAD": "fp32"},
        {"SHADOW_VARIANT": "fp32", "SHADOW_RATIO": "0.1"},
    ],
)
def test_a_variant_that_the_settings_need_must_be_here(
    needing: dict[str, str],
    partial: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in needing.items():
        monkeypatch.setenv(f"EDGEWISE_{name}", value)
    assert main(["check"]) == 2
    captured = capfd.readouterr()
    assert f"{partial / 'fp32.tflite'}: No such file" in one_line(captured.err)
    assert captured.out == ""


def test_what_is_here_must_be_whole(partial: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = partial / "softmax.tflite"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    assert main(["check"]) == 2
    assert "softmax.tflite is not the file that the manifest names" in one_line(capfd.readouterr().err)
    model.unlink()
    (partial / GOLDEN).unlink()
    assert main(["check"]) == 2
    assert f"{GOLDEN}: No such file" in one_line(capfd.readouterr().err)


def test_a_signed_bundle_must_be_complete(
    colours: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pair = make_key_pair(tmp_path / "keys")
    path = signed_copy(colours, tmp_path / "signed", pair)
    (path / "fp32.tflite").unlink()
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(path))
    monkeypatch.setenv("EDGEWISE_BUNDLE_PUBLIC_KEY", str(pair.public))
    assert main(["check"]) == 2
    assert "fp32.tflite: No such file" in one_line(capfd.readouterr().err)


@pytest.mark.parametrize(
    ("command", "row"),
    [
        (["evaluate", "{photos}"], r"^(\w+) +93\.33 "),
        (["benchmark", "--runs", "10"], r"^(\w+) +0\.0 "),
        (["profile", "--runs", "1"], r"^(\w+): the whole graph "),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_measuring_takes_the_variants_that_are_here(
    command: list[str], row: str, partial: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([part.format(photos=folder) for part in command]) == 0
    out = capfd.readouterr().out
    assert out.startswith(f"Left out, since {partial} lacks their files: fp32, int8\n\n")
    assert re.findall(row, out, re.MULTILINE) == HERE


def test_a_named_variant_must_be_here(partial: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--variants", "ptq,fp32", "--runs", "10"]) == 2
    assert f"{partial / 'fp32.tflite'}: No such file" in one_line(capfd.readouterr().err)


def test_without_any_variant_there_is_nothing_to_measure(
    partial: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in HERE:
        (partial / f"{name}.tflite").unlink()
    assert main(["benchmark", "--runs", "10"]) == 2
    assert one_line(capfd.readouterr().err).startswith(f"{partial} has none of its variants' files")
