from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def temple(photos: dict[str, Path]) -> Image.Image:
    """A photo of a temple; no test changes it."""
    return Image.open(photos["temple"]).convert("RGB")
