"""Packing files for bundles."""

from build.packing import pack
from tests.packed import CONTENT


def test_packing_is_deterministic() -> None:
    assert pack(CONTENT) == pack(CONTENT)
