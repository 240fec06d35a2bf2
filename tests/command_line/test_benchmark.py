import json
import re
import time
from pathlib import Path

import pytest

from service.__main__ import main
from service.settings import DEFAULT_BUNDLE
from tests.sensors.boards import counting, rapl, write_tree


def test_benchmark_prints_a_table_and_writes_the_same_as_json(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "result.json"
    assert main(["benchmark", "--variants", "ptq,fp32", "--runs", "20", "--json", str(file)]) == 0
    out = capfd.readouterr().out
    assert re.match(r"ai-edge-litert \S+, delegate xnnpack, one thread, 20 inferences each", out)
    assert "\nTaken by xnnpack:\nptq: " in out
    assert "\nfp32: 3 of 3 operators in 1 partition\n" in out
    rows = dict(re.findall(r"^(ptq|fp32) +(.*)$", out, re.MULTILINE))
    result = json.loads(file.read_text())
    assert [variant["variant"] for variant in result["variants"]] == ["ptq", "fp32"] == list(rows)
    for variant in result["variants"]:
        cells = [float(cell) for cell in rows[variant["variant"]].split()]
        assert cells == [
            round(variant["bytes"] / 1e6, 1),
            round(variant["p50_seconds"] * 1e3, 2),
            round(variant["p99_seconds"] * 1e3, 2),
            round(variant["mean_seconds"] * 1e3, 2),
            round(variant["speedup"], 2),
            round(variant["load_seconds"], 2),
            round(variant["resident_bytes"] / 1e6, 0),
        ]
        assert variant["against"] == "fp32"
        assert variant["runs"] == 20
        assert variant["joules"] is None


def test_benchmark_shows_joules_if_the_machine_counts_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tree(tmp_path / "sys", rapl("0", "package-0", 0), rapl("0:0", "core", 0))
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(DEFAULT_BUNDLE))
    monkeypatch.setenv("EDGEWISE_SYSFS_ROOT", str(root))
    file = tmp_path / "result.json"
    started = time.monotonic()
    with counting(root / "class/powercap/intel-rapl:0/energy_uj", watts=10):
        assert main(["benchmark", "--variants", "fp32", "--runs", "10", "--json", str(file)]) == 0
    out = capfd.readouterr().out
    (result,) = json.loads(file.read_text())["variants"]
    # At most ten watts all the time, for ten inferences and the first one.
    assert 0 < result["joules"] < 10 * (time.monotonic() - started) / 11
    (cell,) = re.findall(r"^variant .* mJ\nfp32 .* ([\d.]+)$", out, re.MULTILINE)
    assert float(cell) == pytest.approx(1e3 * result["joules"], abs=0.005)


def test_variants_may_be_named_with_spaces_and_twice(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--variants", "ptq, fp32,ptq", "--runs", "10"]) == 0
    rows = re.findall(r"^(ptq|fp32) +\d", capfd.readouterr().out, re.MULTILINE)
    assert rows == ["ptq", "fp32"]
