from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from build.quantization.sensitivity import Loss, Sensitivity
from build.quantization.sensitivity_report import sensitivity_picture, sensitivity_table, write_sensitivity
from service.measuring.labelled import image_set

ROOT = Path(__file__).parents[3]
MEASURED = Sensitivity(
    network="small",
    calibrated_on=image_set("photos", ["a" * 64, "b" * 64, "c" * 64]),
    measured_on=image_set("photos", ["d" * 64, "e" * 64]),
    kinds={"sigmoids": Loss(0.001, 0.0001, 1.0), "all weights": Loss(0.03, 0.002, 0.5)},
    blocks={"stem": Loss(0.01, 0.001, 1.0), "head": Loss(0.02, 0.001, 1.0)},
    everything=Loss(0.1, 0.01, 0.5),
)


def committed() -> Sensitivity:
    """The numbers in docs/."""
    return TypeAdapter(Sensitivity).validate_json((ROOT / "docs" / "sensitivity.json").read_bytes())


def test_the_table_has_the_kinds_by_loss_and_the_blocks_in_order() -> None:
    kinds, blocks, caption = sensitivity_table(MEASURED).split("\n\n")
    assert kinds.splitlines() == [
        "| kind of tensor | KL nats | ± | agreement % |",
        "|---|--:|--:|--:|",
        "| everything | 0.10000 | 0.01000 | 50.0 |",
        "| all weights | 0.03000 | 0.00200 | 50.0 |",
        "| sigmoids | 0.00100 | 0.00010 | 100.0 |",
    ]
    assert [row.split()[1] for row in blocks.splitlines()[2:]] == ["stem", "head"]
    assert "on 2 photos of photos; the ranges are from 3 others" in caption


def test_the_picture_has_a_bar_per_group() -> None:
    with Image.open(BytesIO(sensitivity_picture(MEASURED))) as image:
        assert (image.format, image.size) == ("PNG", (1000, 550))
        pixels = np.asarray(image.convert("RGB")).astype(int)
    blue = (pixels == (31, 119, 180)).all(axis=2)
    # The bars are in proportion to the losses, to within the pixels at their edges.
    for half, losses in ((blue[:, :500], [0.03, 0.001]), (blue[:, 500:], [0.01, 0.02])):
        widths = half.sum(axis=1)
        rows = np.split(widths, np.flatnonzero(np.diff(widths > 0)) + 1)
        # The line of an error bar can split a short bar in two.
        upper, *_, lower = [part.max() for part in rows if part.any()]
        scale = max(upper, lower) / max(losses)
        assert [upper, lower] == pytest.approx([scale * loss for loss in losses], abs=2)
    assert (pixels == (127, 127, 127)).all(axis=2)[:, :500].any()


def test_the_same_numbers_make_the_same_bytes() -> None:
    assert sensitivity_picture(MEASURED) == sensitivity_picture(MEASURED)


def test_the_numbers_can_be_read_again(tmp_path: Path) -> None:
    picture, numbers = write_sensitivity(MEASURED, tmp_path)
    assert picture.read_bytes() == sensitivity_picture(MEASURED)
    assert TypeAdapter(Sensitivity).validate_json(numbers.read_bytes()) == MEASURED


def test_the_documents_show_the_numbers_that_were_measured() -> None:
    kinds, _, _ = sensitivity_table(committed()).split("\n\n")
    assert kinds in (ROOT / "docs" / "recipes.md").read_text()
    assert (ROOT / "docs" / "sensitivity.png").stat().st_size < 100_000


def test_the_documented_numbers_are_not_from_calibration_photos() -> None:
    measured = committed()
    assert measured.calibrated_on.images == measured.measured_on.images == 500
    assert measured.calibrated_on.sha256 != measured.measured_on.sha256
