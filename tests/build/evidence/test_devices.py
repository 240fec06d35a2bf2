import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from build.__main__ import main
from build.errors import BuildError
from build.evidence.devices import BEGIN, END, device_tables, read_reports
from service.bundle.folder import Bundle
from tests.reports import emulated, parsed, report, variant

ROOT = Path(__file__).parents[3]
DEVICES = ROOT / "docs" / "devices"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two reports, not in the order of their names."""
    written = [tmp_path / "qemu.json", tmp_path / "pi.json"]
    for file, content in zip(written, (emulated(), report()), strict=True):
        file.write_text(json.dumps(content))
    return written


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_device_and_variant_has_a_row(files: list[Path]) -> None:
    tables = device_tables(read_reports(files))
    device_header, pi, qemu, variant_header, pi_ptq, qemu_ptq = rows(tables)
    assert len(device_header) == len(pi) == len(qemu)
    assert len(variant_header) == len(pi_ptq) == len(qemu_ptq)
    assert pi == [
        "[Raspberry Pi 5 Model B Rev 1.0](pi.json)",
        "4 × Cortex-A76",
        "8.4",
        "ondemand",
        "50 → 72",
        "98",
        "Debian GNU/Linux 12 (bookworm), 6.6.31, Python 3.11.2",
        "ai-edge-litert 2.3.0, xnnpack",
        "2026-11-24",
    ]
    assert qemu[:6] == [
        "[emulated aarch64 (emulated)](qemu.json)",
        "4 × Cortex-A76",
        "8.4",
        "ondemand",
        "",
        "",
    ]
    assert pi_ptq == [
        "Raspberry Pi 5 Model B Rev 1.0",
        "ptq",
        "61.54 (50.0–75.0)",
        "650",
        "98.5",
        "61.2",
        "70.8",
        "16.2",
        "58.0 (4)",
        "0.51",
        "81",
        "83.1",
    ]
    assert qemu_ptq == ["emulated aarch64 (emulated)", "ptq", "61.54 (50.0–75.0)", "650", "98.5", *[""] * 7]
    assert tables.count("Accuracy on 650 images (SHA-256 0123456789abcdef…), crop `none`.") == 1


def test_missing_measurements_are_empty_cells() -> None:
    speed = variant()["speed"] | {"joules": None, "resident_bytes": None}
    plain = parsed(
        report(
            heat={"before": {}, "after": {}, "clock": None},
            device=report()["device"] | {"governor": None, "memory_bytes": None},
            variants={"ptq": variant(accuracy=None, speed=speed)},
        )
    )
    _, device, _, row = rows(device_tables({"a.json": plain}))
    assert device[2:6] == [""] * 4
    assert row[2:5] + row[10:] == [""] * 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a report of schema version 1 .*: Invalid JSON"),
        (b"\xff", "is not a report"),
        (json.dumps(report(schema_version=2)).encode(), "is not a report .*: schema_version: Input should"),
        (json.dumps(report(user="ada")).encode(), "is not a report .*: user: Extra inputs are not permitted"),
    ],
)
def test_an_invalid_report_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    with pytest.raises(BuildError, match=rf"bad\.json {message}"):
        read_reports([file])


def test_reports_with_equal_names_and_unreadable_reports_are_named(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"two reports are named pi\.json"):
        read_reports([*files, tmp_path / "other" / "pi.json"])
    with pytest.raises(BuildError, match=r"none\.json can't be read: No such file"):
        read_reports([tmp_path / "none.json"])


def test_the_command_puts_the_tables_into_a_file(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# Devices\n\n{BEGIN}\n{END}\n")
    assert main(["report", "--insert", str(readme), "--devices", *map(str, files)]) == 0
    tables = device_tables(read_reports(files))
    assert capsys.readouterr().out == f"{tables}\n"
    assert readme.read_text() == f"# Devices\n\n{BEGIN}\n\n{tables}\n\n{END}\n"


def test_report_takes_either_a_bundle_or_devices(
    files: list[Path], colours: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([], [str(colours.path), "--devices", str(files[0])]):
        assert main(["report", *arguments]) == 2
        assert (
            capsys.readouterr().err
            == "edgewise: report takes either a bundle or --devices with device reports\n"
        )


def test_the_documented_table_matches_the_reports() -> None:
    tables = device_tables(read_reports(list(DEVICES.glob("*.json"))))
    text = (DEVICES / "README.md").read_text("utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == tables


def texts(value: Any) -> Iterator[str]:
    """All keys and strings in a JSON value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from (key, *texts(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("file", sorted(DEVICES.glob("*.json")), ids=lambda path: path.name)
def test_the_reports_contain_no_paths_and_no_hosts(file: Path) -> None:
    assert re.fullmatch(r"[a-z0-9-]+\.json", file.name)
    found = list(texts(json.loads(file.read_text("utf-8"))))
    assert [text for text in found if re.search(r"(^|\s)/|~|\\|\.local\b|localhost", text)] == []
