import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from service.results.profile import Profile
from tests.reports import SHA256, report


def operator(index: int, **changes: Any) -> dict[str, Any]:
    return {
        "index": index,
        "kind": "MUL",
        "layer": "network/block1a_silu/mul;network/block1a/BiasAdd",
        "inputs": [[1, 8, 8, 4], []],
        "outputs": [[1, 8, 8, 4]],
        "taken": True,
        "measured_with": None,
        "p50_seconds": 0.0005,
        "share": 0.5,
        **changes,
    }


def beside(index: int, other: int) -> dict[str, Any]:
    """An operator that is measured with another."""
    return operator(index, kind="LOGISTIC", measured_with=other, p50_seconds=None, share=None)


def whole(operators: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    """A profile as its JSON file has it."""
    base = report()
    variant = {
        "sha256": SHA256,
        "bytes": 8_400_000,
        "precision": "int8",
        "runs": 200,
        "p50_seconds": 0.0011,
        "sum_seconds": 0.001,
        "sum_ratio": 0.91,
        "operators": [operator(0), beside(1, 2), operator(2)] if operators is None else operators,
    }
    return {
        **{name: base[name] for name in ("schema_version", "date", "device", "software", "bundle")},
        "threads": 1,
        "variants": {"ptq": variant},
        **changes,
    }


def test_a_profile_reads_as_it_was_written() -> None:
    read = Profile.model_validate_json(json.dumps(whole()))
    assert read.model_dump(mode="json") == whole()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: whole(schema_version=2), "Input should be 1"),
        (lambda: whole(host="pi"), "Extra inputs are not permitted"),
        (lambda: whole(variants={}), "at least 1 item"),
        (lambda: whole([]), "at least 1 item"),
        (lambda: whole([operator(0), operator(0)]), "once each, in the graph's order"),
        (lambda: whole([operator(1), operator(0)]), "once each, in the graph's order"),
        (lambda: whole([operator(1)]), "once each, in the graph's order"),
        (lambda: whole([operator(0), beside(1, 2)]), "measured with one that has a time"),
        (lambda: whole([operator(0), beside(1, 2), beside(2, 0)]), "measured with one that has a time"),
        (lambda: whole([operator(0, p50_seconds=None)]), "a time and a share, or be measured with another"),
        (lambda: whole([operator(0, share=None)]), "a time and a share, or be measured with another"),
        (lambda: whole([operator(0, measured_with=0)]), "a time and a share, or be measured with another"),
        (lambda: whole([operator(0, p50_seconds=0.0)]), "greater than 0"),
        (lambda: whole([operator(0, share=1.5)]), "less than or equal to 1"),
    ],
)
def test_an_invalid_profile_is_refused(make: Callable[[], dict[str, Any]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Profile.model_validate(make())
