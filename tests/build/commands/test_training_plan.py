import argparse
from pathlib import Path

from build.commands.training_plan import plan_of
from build.network.weights import Network
from build.photos.data import PhotoSet, is_held_out, unlabelled_photos


def test_validation_photos_exclude_calibration_photos(
    start: Network, calibration: Path, tmp_path: Path
) -> None:
    photos = unlabelled_photos(calibration)
    options = argparse.Namespace(run=tmp_path, seed=None)
    held_out = plan_of([], [photos], PhotoSet("none", ()), start, options)
    assert held_out is not None
    assert len(held_out.validation) > 1
    assert all(map(is_held_out, held_out.validation))
    first = PhotoSet("first", (held_out.validation[0], *held_out.photos))
    plan = plan_of([], [photos], first, start, options)
    assert plan is not None
    assert plan.validation == list(held_out.validation[1:])
    assert plan.photos == held_out.photos
    # If all were calibrated on, they are validated on nevertheless: that is better than none.
    all_calibrated = plan_of([], [photos], photos, start, options)
    assert all_calibrated is not None
    assert all_calibrated.validation == held_out.validation
