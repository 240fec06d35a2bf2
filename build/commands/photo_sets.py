"""The sets of photos that a command's options name; TensorFlow is not loaded."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from build.photos.data import (
    PhotoSet,
    sample,
    set_name,
    training_folder,
    training_photos,
    unlabelled_photos,
)
from build.photos.readable import readable
from build.quantization.recipe import Recipe
from service.bundle.manifest import Manifest
from service.measuring.labelled import refuse_two_labels

if TYPE_CHECKING:
    from build.network.weights import Network


def readable_sets(
    sets: Sequence[PhotoSet], of: "Network | Manifest", options: argparse.Namespace
) -> list[PhotoSet]:
    """Check the sets, and return them without the unreadable images if `--skip-corrupt` is set.

    Raises:
        DatasetError: an image can't be read and `--skip-corrupt` is not set, or its class or set has no
            others; or an image is in the folders of two classes.
    """
    kept = readable(sets, of.preprocessing, skip_corrupt=options.skip_corrupt)
    for photo_set in kept:
        refuse_two_labels(photo_set.images)
    return kept


def training_sets(network: "Network", labelled: Path, unlabelled: Sequence[Path]) -> list[PhotoSet]:
    """Return the photos to fine-tune on: labelled ones of the network's classes, and unlabelled ones."""
    return [training_photos(labelled, network.classes), *map(unlabelled_photos, unlabelled)]


def unlabelled_sets(options: argparse.Namespace) -> list[PhotoSet]:
    """Return the photos for quantization-aware training: those to calibrate on, and `--unlabelled` ones."""
    own = replace(unlabelled_photos(training_folder(options.calibration)), name=set_name(options.calibration))
    return [own, *map(unlabelled_photos, options.unlabelled)]


def sample_for(recipes: Sequence[Recipe], folder: Path, known: Sequence[PhotoSet] = ()) -> PhotoSet:
    """Sample as many photos as the recipe that wants the most; `known` ones are not hashed again."""
    return sample(folder, most_representative(recipes), known)


def most_representative(recipes: Sequence[Recipe]) -> int:
    """Return the number of representative photos of the recipe that wants the most."""
    return max(recipe.representative_images for recipe in recipes)
