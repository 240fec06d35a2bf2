import re
from pathlib import Path

import pytest

from service.__main__ import main
from service.commands.device import describe_device, describe_software
from service.commands.profile import profile
from service.errors import StartError
from service.inference.delegates import Delegate
from service.results.profile import Profile
from service.settings import DEFAULT_BUNDLE, Settings
from tests.command_line.output import one_line
from tests.sensors.boards import write_tree


def test_profile_prints_tables_and_writes_all_operators_as_json(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "profile.json"
    command = ["profile", "--variants", "ptq,fp32", "--runs", "3", "--top", "2"]
    assert main([*command, "--json", str(file), "--name", "a board"]) == 0
    captured = capfd.readouterr()
    assert re.match(r"ai-edge-litert \S+, delegate xnnpack, one thread, medians of 3 rounds\n", captured.out)
    assert "3/3" in captured.err
    written = Profile.model_validate_json(file.read_text())
    assert (written.bundle, written.threads, written.device.name) == ("colours", 1, "a board")
    assert written.software == describe_software(Delegate.XNNPACK)
    assert list(written.variants) == ["ptq", "fp32"]
    parts = captured.out.split("\n\n")
    for number, (name, result) in enumerate(written.variants.items()):
        head, rows, kinds = parts[1 + 3 * number : 4 + 3 * number]
        assert head == (
            f"{name}: the whole graph {1e3 * result.p50_seconds:.2f} ms,"
            f" its {len(result.operators)} operators one by one {1e3 * result.sum_seconds:.2f} ms,"
            f" {result.sum_ratio:.2f} of that"
        )
        slowest = sorted(result.operators, key=lambda o: -(o.p50_seconds or 0))[:2]
        shown = [line.split() for line in rows.splitlines()[1:]]
        assert [(row[1], row[-2], row[-1]) for row in shown] == [
            (str(o.index), f"{1e3 * (o.p50_seconds or 0):.3f}", f"{100 * (o.share or 0):.1f}")
            for o in slowest
        ]
        assert {row[3] for row in shown} <= {"xnnpack", "none"}
        assert sum(float(share) for share in re.findall(r"([\d.]+) %", kinds)) == pytest.approx(100, abs=0.5)


def test_profile_uses_the_delegate_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_DELEGATE", "none")
    assert main(["profile", "--variants", "ptq", "--runs", "1"]) == 0
    out = capfd.readouterr().out
    assert "delegate none, one thread" in out
    assert re.findall(r" (none|xnnpack) +\S+ +\S+ +[\d.]+ +[\d.]+$", out, re.MULTILINE) == ["none"] * 4


def test_profile_names_operator_kinds_measured_together(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(DEFAULT_BUNDLE))
    assert main(["profile", "--variants", "fp16", "--runs", "1"]) == 0
    (kinds,) = re.findall("^By kind: (.*)$", capfd.readouterr().out, re.MULTILINE)
    counts = dict(re.findall(r"(\S+) \((\d+)\)", kinds))
    assert (counts["DEQUANTIZE+CONV_2D"], counts["LOGISTIC+MUL"], counts["LOGISTIC"]) == ("75", "55", "16")
    assert "DEQUANTIZE" not in counts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "a board"], "--name would have no effect without --json FILE; add that"),
        (["--json", "{folder}/a.json"], "neither a device tree nor DMI says what device this is; name it"),
        (["--bundle", "/nonexistent"], "/nonexistent"),
    ],
)
def test_profile_refuses_wrong_options_before_measuring(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("EDGEWISE_SYSFS_ROOT", str(write_tree(tmp_path / "sys", {"class/none": ""})))
    assert main(["profile", *(option.format(folder=tmp_path) for option in options)]) == 2
    captured = capfd.readouterr()
    assert message in one_line(captured.err)
    assert captured.out == ""


def test_nothing_is_profiled_under_emulation(tmp_path: Path) -> None:
    device = describe_device("qemu", tmp_path).model_copy(update={"emulated": True})
    with pytest.raises(StartError, match="is emulated here: times of operators would mean nothing"):
        profile(Settings(), device, tmp_path / "a.json", variants=None, runs=1, top=1)
    assert not (tmp_path / "a.json").exists()
