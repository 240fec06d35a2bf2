from pathlib import Path

import pytest
from PIL import Image

from service.bundle.folder import Bundle
from tests.colours import RGB

PHOTOS_PER_CLASS = 3


@pytest.fixture(autouse=True)
def bundle_setting(colours: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEWISE_BUNDLE", str(colours.path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos of each colour, three per class; one of the red ones is really blue."""
    folder = tmp_path / "photos"
    for colour in RGB:
        (folder / colour).mkdir(parents=True)
        for number in range(PHOTOS_PER_CLASS):
            wrong = (colour, number) == ("red", 0)
            image = Image.new("RGB", (40 + number, 31 if wrong else 30), RGB["blue" if wrong else colour])
            image.save(folder / colour / f"{number}.png")
    return folder
