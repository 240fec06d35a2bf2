import shutil
from pathlib import Path

import pytest

from build.errors import BuildError
from build.evidence.model_card import PICTURE, model_card
from build.evidence.picture import pareto_picture
from build.evidence.reference import read_per_class
from build.evidence.report import BEGIN, END, insert_table, renew_report
from build.evidence.tables import variant_table
from service.bundle.folder import Bundle, load_bundle, read_file, verify
from service.bundle.manifest import MODEL_CARD
from service.images.pixels import Crop
from tests.build.conftest import record


def test_the_report_is_part_of_the_bundle(measured: Bundle) -> None:
    verify(measured)
    assert read_file(measured, MODEL_CARD).decode() == model_card(measured.manifest, read_per_class(measured))
    assert read_file(measured, PICTURE) == pareto_picture(measured.manifest)


def test_every_variant_has_a_latency_measured_on_the_same_machine(measured: Bundle) -> None:
    latencies = [variant.latency for variant in measured.manifest.variants.values()]
    for latency in latencies:
        assert latency is not None
        assert latency.runs == 10
        assert 0 < latency.p50_seconds <= latency.p99_seconds
        assert latency.runtime.startswith("ai-edge-litert ")
        assert latency.delegate == "xnnpack"
        assert "cores" in latency.machine
    assert len({latency.machine for latency in latencies if latency}) == 1


def test_the_report_changes_nothing_else_in_the_bundle(measured: Bundle, small: Bundle) -> None:
    for name, variant in measured.manifest.variants.items():
        same = variant.model_copy(update={"latency": None, "evaluations": ()})
        assert same == small.manifest.variants[name]
    assert measured.manifest.files.items() >= small.manifest.files.items()


def test_renewing_the_report_updates_the_card_and_the_picture(
    measured: Bundle, evaluation: Path, tmp_path: Path
) -> None:
    shutil.copytree(measured.path, tmp_path / "small")
    changed = record(load_bundle(tmp_path / "small"), evaluation, Crop.NONE)
    assert read_file(changed, MODEL_CARD).decode() != model_card(changed.manifest, read_per_class(changed))
    renewed = renew_report(changed)
    verify(renewed)
    assert read_file(renewed, MODEL_CARD).decode() == model_card(changed.manifest, read_per_class(changed))
    assert read_file(renewed, PICTURE) == pareto_picture(changed.manifest)


def test_renewing_the_report_does_not_add_a_card(small: Bundle) -> None:
    assert renew_report(small) is small


def test_the_table_replaces_only_what_is_between_the_markers(measured: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"# Title\n{BEGIN}\nold | table\n{END}\n\nmore, {END} and {BEGIN} too\n")
    insert_table(measured.manifest, file)
    table = variant_table(measured.manifest)
    expected = f"# Title\n{BEGIN}\n\n{table}\n\n{END}\n\nmore, {END} and {BEGIN} too\n"
    assert file.read_text() == expected
    insert_table(measured.manifest, file)
    assert file.read_text() == expected


def test_inserting_the_table_keeps_the_line_endings(measured: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_bytes(f"# Title\r\n{BEGIN}\r\n{END}\r\n".encode())
    insert_table(measured.manifest, file)
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) > 5
    assert all(line.endswith(b"\r\n") for line in lines)


@pytest.mark.parametrize("text", ["no markers", BEGIN, END, f"{END}\n{BEGIN}"])
def test_a_file_without_markers_is_refused_and_unchanged(measured: Bundle, tmp_path: Path, text: str) -> None:
    file = tmp_path / "README.md"
    file.write_text(text)
    with pytest.raises(BuildError, match=r"README\.md has no lines <!-- variants --> and"):
        insert_table(measured.manifest, file)
    assert file.read_text() == text


def test_a_file_that_can_not_be_read_is_named(measured: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"none\.md can't be read"):
        insert_table(measured.manifest, tmp_path / "none.md")
