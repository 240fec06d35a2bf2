"""/dev/full, a device on which every write fails, as on a full disk."""

from pathlib import Path

import pytest

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is absent")
