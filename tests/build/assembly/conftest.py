from pathlib import Path
from typing import Any, Literal

import pytest

from build.assembly.importing import Origin, PreprocessingOptions, import_models, named_models
from service.bundle.folder import Bundle
from service.bundle.manifest import Filter, Resize
from service.inference.delegates import Delegate
from tests.colours import CLASS_IDS_OF, LABELS_OF


def imported(
    model: Path | list[Path],
    path: Path,
    *,
    labels: Path | None = None,
    class_ids: Path | None = None,
    output: Literal["logits", "probabilities"] = "logits",
    delegate: Delegate = Delegate.XNNPACK,
    seen_images: frozenset[str] | None = None,
    **preprocessing: Any,
) -> Bundle:
    """Import one or several files, by default with the colour classifier's options."""
    models = model if isinstance(model, list) else [model]
    colours = {"resize": Resize.SHORTER_SIDE, "crop_fraction": None, "filter": Filter.BILINEAR}
    return import_models(
        named_models([(None, file) for file in models]),
        path,
        labels=labels or models[0].parent / "labels.txt",
        class_ids=class_ids,
        output=output,
        preprocessing=PreprocessingOptions(**(colours | preprocessing)),
        origin=Origin("Apache-2.0", "python -m build import", seen_images),
        delegate=delegate,
    )


@pytest.fixture
def models(colour_models: Path, tmp_path: Path) -> Path:
    """A folder with the colour classifier's files, labels and class ids."""
    folder = tmp_path / "models"
    folder.mkdir()
    for file in colour_models.glob("*.tflite"):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "labels.txt").write_text("\n".join(LABELS_OF))
    (folder / "ids.txt").write_text("\n".join(CLASS_IDS_OF))
    return folder
