from pathlib import Path
from typing import Any

import pytest

from build.assembly.importing import import_models, named_models
from service.bundle.folder import Bundle
from service.bundle.manifest import Filter, Resize
from tests.colours import CLASS_IDS_OF, LABELS_OF


def imported(model: Path | list[Path], path: Path, **options: Any) -> Bundle:
    """Import one file, or several, with the colour classifier's options but for those given."""
    models = model if isinstance(model, list) else [model]
    colours = {
        "labels": models[0].parent / "labels.txt",
        "class_ids": None,
        "output": "logits",
        "mean": 0.0,
        "std": 1.0,
        "resize": Resize.SHORTER_SIDE,
        "crop_fraction": None,
        "filter_": Filter.BILINEAR,
        "licence": "Apache-2.0",
        "command": "python -m build import",
    }
    return import_models(named_models([(None, file) for file in models]), path, **(colours | options))


@pytest.fixture
def models(colour_models: Path, tmp_path: Path) -> Path:
    """A folder with the colour classifier's files, its labels and its class ids."""
    folder = tmp_path / "models"
    folder.mkdir()
    for file in colour_models.glob("*.tflite"):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "labels.txt").write_text("\n".join(LABELS_OF))
    (folder / "ids.txt").write_text("\n".join(CLASS_IDS_OF))
    return folder
