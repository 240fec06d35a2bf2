import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtest import api
from loadtest.capacity.command import capacity
from loadtest.errors import LoadTestError
from loadtest.status import FAILED, HELD

LISTED = {"active": "ptq", "variants": [{"name": "fp32"}, {"name": "ptq"}]}


def test_what_was_found_is_kept_where_the_next_variant_cant_be_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_test(_arguments: Sequence[str], folder: Path, _cores: object) -> int:
        folder.mkdir(parents=True, exist_ok=True)
        missed = {"held": False, "line": "p50: FAILED"}
        told = {
            "slo": [missed],
            "latency_seconds": {"p99": 0.1},
            "rate": 1.0,
            "late_ratio": 0.0,
            "sent_late_p99_seconds": None,
            "counts": {"frames": 96},
            "accuracy": {},
        }
        (folder / "report.json").write_text(json.dumps(told))
        return FAILED

    def switch(_host: str, variant: str, _token: str) -> None:
        if variant == "fp32":
            raise LoadTestError("fp32 can't be used")

    monkeypatch.setattr("loadtest.capacity.search.run_test", run_test)
    (tmp_path / "token").write_text("a-token")
    given = ["--admin-token-file", str(tmp_path / "token"), "--host", "http://board"]
    monkeypatch.setattr(api, "variants", lambda *_: LISTED)
    monkeypatch.setattr(api, "switch", switch)
    with pytest.raises(LoadTestError, match="fp32 can't be used"):
        capacity(["--variants", "ptq,fp32", *given, "--report", str(tmp_path)])
    assert "| ptq | none |" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["capacity"] == {"ptq": None}
    assert (tmp_path / "report.md").exists()


def test_a_rate_that_is_not_made_does_not_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Sequence[str]] = []

    def run_test(arguments: Sequence[str], folder: Path, _cores: object) -> int:
        asked.append(arguments)
        folder.mkdir(parents=True, exist_ok=True)
        told = {"slo": [], "latency_seconds": {"p99": 0.1}, "rate": 1.0, "late_ratio": 0.0}
        told |= {"sent_late_p99_seconds": 0.002, "counts": {"frames": 200}, "accuracy": {}}
        (folder / "report.json").write_text(json.dumps(told))
        return HELD

    monkeypatch.setattr("loadtest.capacity.search.run_test", run_test)
    monkeypatch.setattr(api, "variants", lambda *_: LISTED)
    given = ["--variants", "ptq", "--host", "http://board", "--report", str(tmp_path), "--fps", "5"]
    assert capacity(given) == HELD
    # 200 frames are enough for 52/s in the 4.6 s in which all cameras are there, and too few for 64.
    assert "ptq: 64.0/s: offered: 200 frames, of 384: FAILED" in capsys.readouterr().err
    tries = {path.parent.name for path in tmp_path.glob("ptq/*/report.json")}
    assert {"0032.00", "0064.00", "0064.00-again"} <= tries
    assert "0032.00-again" not in tries
    found = json.loads((tmp_path / "report.json").read_text())["capacity"]["ptq"]
    assert 45 < found < 60
    # Of an option that is given twice Locust takes the last.
    first = asked[0]
    assert float(first[len(first) - first[::-1].index("--fps")]) == pytest.approx(16 / 3)


@pytest.mark.parametrize(("lag", "doubted"), [(0.069, True), (0.019, False), (None, False)])
def test_a_search_that_the_load_may_have_ended_says_so(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    lag: float | None,
    doubted: bool,
) -> None:
    def run_test(arguments: Sequence[str], folder: Path, _cores: object) -> int:
        folder.mkdir(parents=True, exist_ok=True)
        held = float(folder.name.removesuffix("-again")) <= 20
        told = {
            "slo": [{"held": held, "line": "p99: FAILED"}],
            "latency_seconds": {"p99": 0.1},
            "rate": 1.0,
            "late_ratio": 0.0,
            "sent_late_p99_seconds": 0.001 if held else lag,
            "counts": {"frames": 1000},
            "accuracy": {},
        }
        (folder / "report.json").write_text(json.dumps(told))
        return HELD if held else FAILED

    monkeypatch.setattr("loadtest.capacity.search.run_test", run_test)
    monkeypatch.setattr(api, "variants", lambda *_: LISTED)
    capacity(["--variants", "ptq", "--host", "http://board", "--report", str(tmp_path)])
    output, errors = capsys.readouterr()
    assert "ptq: 16.0/s: held (sent late p99 1.0 ms)\n" in errors
    assert ("ptq: 32.0/s: p99: FAILED (sent late p99 69.0 ms)\n" in errors) == doubted
    # The last that did not hold, and not the highest.
    note = "ptq: at 20.3/s the load test, not the service, may have ended the search. One frame in a hundred"
    assert (note in output) == doubted
    assert (note in (tmp_path / "report.md").read_text()) == doubted
    steps = json.loads((tmp_path / "report.json").read_text())["steps"]
    assert steps[0]["sent_late_p99_seconds"] == 0.001
