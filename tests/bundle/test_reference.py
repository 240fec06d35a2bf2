"""`reference.json`: what it refuses, and that it must match its bundle."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.bundle.folder import Bundle
from service.bundle.manifest import REFERENCE
from service.bundle.reference import Reference, read_reference
from service.errors import BundleError
from tests.evaluated import EVALUATION, FIELDS, with_reference


def test_a_reference_is_read_as_it_was_written(colours: Bundle, tmp_path: Path) -> None:
    bundle = with_reference(colours, tmp_path / "bundle", json.dumps(FIELDS).encode())
    reference = read_reference(bundle)
    assert reference == Reference.model_validate(FIELDS)
    assert reference is not None
    assert reference.variants["ptq"].top1 == (1, 0, 2, 1, 0)
    assert Reference.model_validate_json(reference.model_dump_json()) == reference


def test_a_bundle_needs_no_reference(colours: Bundle) -> None:
    assert read_reference(colours) is None


def set_(*where: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(fields: dict[str, Any]) -> None:
        for key in where[:-1]:
            fields = fields[key]
        fields[where[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            set_("variants", "ptq", "top1", value=[1, 0, 2, 1, 1]),
            "ptq: top1 counts 5 images, but dataset has 4",
        ),
        (set_("variants", "ptq", "top1", value=[5, 0, 0, 0, -1]), "greater than or equal to 0"),
        (set_("variants", "ptq", "confidence", value=[0.5] * 100), "at least 101 items"),
        (set_("variants", "ptq", "confidence", value=[1] + [0.5] * 100), "must not decrease"),
        (set_("variants", "ptq", "confidence", value=[1.5] * 101), "less than or equal to 1"),
        (set_("crop", value="half"), "Input should be"),
        (set_("more", value=1), "Extra inputs"),
        (set_("variants", "ptq", "top1", value=[1, 0, 2, 1]), "is not for ptq's reference evaluation"),
        (lambda fields: fields["variants"].pop("ptq"), "is not for ptq's reference evaluation"),
        (set_("crop", value="bundle"), "is not for fp32's reference evaluation in the manifest"),
        (set_("dataset", "name", value="others"), "is not for fp32's reference evaluation in the manifest"),
    ],
)
def test_an_invalid_or_mismatched_reference_is_refused(
    colours: Bundle, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    fields = json.loads(json.dumps(FIELDS))
    change(fields)
    bundle = with_reference(colours, tmp_path / "bundle", json.dumps(fields).encode())
    with pytest.raises(BundleError, match=message) as caught:
        read_reference(bundle)
    assert str(caught.value).startswith(f"{bundle.path / REFERENCE} is not")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_json_is_refused(colours: Bundle, tmp_path: Path) -> None:
    bundle = with_reference(colours, tmp_path / "bundle", b"\xff")
    with pytest.raises(BundleError, match=r"reference\.json is not valid: Invalid JSON"):
        read_reference(bundle)


def test_a_manifest_without_a_reference_evaluation_is_refused(colours: Bundle, tmp_path: Path) -> None:
    evaluation = EVALUATION.model_copy(update={"reference": False})
    bundle = with_reference(colours, tmp_path / "bundle", json.dumps(FIELDS).encode(), evaluation)
    with pytest.raises(BundleError, match="is not for fp32's reference evaluation"):
        read_reference(bundle)


def test_a_damaged_file_is_refused(colours: Bundle, tmp_path: Path) -> None:
    bundle = with_reference(colours, tmp_path / "bundle", json.dumps(FIELDS).encode())
    (bundle.path / REFERENCE).write_bytes(b"{}")
    with pytest.raises(BundleError, match="SHA-256 differs"):
        read_reference(bundle)
