import argparse
from pathlib import Path

from build.commands.training_plan import plan_of
from build.network.weights import Network
from build.photos.data import PhotoSet, is_held_out, unlabelled_photos


def test_training_is_not_watched_by_photos_that_are_calibrated_on(
    start: Network, calibration: Path, tmp_path: Path
) -> None:
    photos = unlabelled_photos(calibration)
    options = argparse.Namespace(run=tmp_path, seed=None)
    held_out = plan_of([], [photos], PhotoSet("none", ()), start, options)
    assert held_out is not None
    assert len(held_out.watched) > 1
    assert all(map(is_held_out, held_out.watched))
    first = PhotoSet("first", (held_out.watched[0], *held_out.photos))
    plan = plan_of([], [photos], first, start, options)
    assert plan is not None
    assert plan.watched == list(held_out.watched[1:])
    assert plan.photos == held_out.photos
    # Some are better than none.
    of_all = plan_of([], [photos], photos, start, options)
    assert of_all is not None
    assert of_all.watched == held_out.watched
