import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from service.results.report import DeviceReport
from tests.reports import emulated, report, variant


@pytest.mark.parametrize("whole", [report(), emulated()])
def test_a_report_reads_as_it_was_written(whole: dict[str, Any]) -> None:
    read = DeviceReport.model_validate_json(json.dumps(whole))
    assert read.model_dump(mode="json") == whole


def device(**changes: Any) -> dict[str, Any]:
    return report(device=report()["device"] | changes)


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        (lambda: report(schema_version=2), "Input should be 1"),
        (lambda: report(host="pi"), "Extra inputs are not permitted"),
        (lambda: device(serial="123"), "Extra inputs are not permitted"),
        (lambda: device(name=""), "should have 1 to 96 letters, digits"),
        (lambda: device(name="a | b"), "should have 1 to 96 letters, digits"),
        (lambda: device(name="[a](b)"), "should have 1 to 96 letters, digits"),
        (lambda: device(name="<img src=x>"), "should have 1 to 96 letters, digits"),
        (lambda: device(name="two\nlines"), "should have 1 to 96 letters, digits"),
        (lambda: device(name="at the end\n"), "should have 1 to 96 letters, digits"),
        (lambda: device(name=97 * "x"), "should have 1 to 96 letters, digits"),
        (lambda: device(cpus={}), "at least 1 item"),
        (lambda: device(emulated=True), "an emulated device has no speeds to report"),
        (lambda: report(heat=None), "are required unless the device is emulated"),
        (lambda: report(variants={"ptq": variant(speed=None)}), "are required unless the device is emulated"),
        (lambda: report(variants={"a|b": variant()}), "String should match pattern"),
        (lambda: report(variants={}), "at least 1 item"),
        (lambda: emulated() | {"heat": report()["heat"]}, "an emulated device has no speeds to report"),
    ],
)
def test_an_invalid_report_is_refused(whole: Callable[[], dict[str, Any]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DeviceReport.model_validate(whole())
