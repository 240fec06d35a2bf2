"""The sets of photos that the options of a command name, without TensorFlow."""

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
    """The sets, checked: what can't be read is refused or left out, and no image has two labels."""
    kept = readable(sets, of.preprocessing, skip_corrupt=options.skip_corrupt)
    for photo_set in kept:
        refuse_two_labels(photo_set.images)
    return kept


def training_sets(network: "Network", labelled: Path, unlabelled: Sequence[Path]) -> list[PhotoSet]:
    """What to fine-tune on: labelled photos of the network's classes, and others."""
    return [training_photos(labelled, network.classes), *map(unlabelled_photos, unlabelled)]


def unlabelled_sets(options: argparse.Namespace) -> list[PhotoSet]:
    """What quantization-aware training needs no labels of: the photos to calibrate on, and others."""
    own = replace(unlabelled_photos(training_folder(options.calibration)), name=set_name(options.calibration))
    return [own, *map(unlabelled_photos, options.unlabelled)]


def sample_for(recipes: Sequence[Recipe], folder: Path, known: Sequence[PhotoSet] = ()) -> PhotoSet:
    """As many representative photos as the recipe with the most wants; `known` ones are not hashed again."""
    return sample(folder, most_representative(recipes), known)


def most_representative(recipes: Sequence[Recipe]) -> int:
    """How many representative photos the recipe with the most wants."""
    return max(recipe.representative_images for recipe in recipes)
