"""Packing files for bundles."""

from build.packing import pack
from tests.bundle.test_packing import CONTENT, PACKED


def test_packing_is_deterministic() -> None:
    assert pack(CONTENT) == PACKED
