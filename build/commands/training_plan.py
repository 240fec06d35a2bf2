"""How a command trains, according to its options: schedule, photos, and the folder for checkpoints."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from build.assembly.variants import TrainingPlan
from build.errors import BuildError
from build.network.weights import Network
from build.photos.data import PhotoSet, without_repeats
from build.quantization.recipe import Recipe
from build.training.fine_tuning import split_held_out
from build.training.loop import steps_of
from build.training.qat import check_folder
from build.training.schedule import DISTILLATION, LABEL_WEIGHT, Schedule
from service.bundle.manifest import MANIFEST

RUNS = Path("runs")
QUANTIZED_TRAINING_OPTIONS = ("unlabelled", "seed", "run")
"""Of the options of every command that makes variants, those that only training uses."""


def runs_of(options: argparse.Namespace) -> Path:
    """Return the folder for checkpoints: `--run`, or `runs/NAME` with the name of the bundle's folder."""
    folder: Path = options.run or RUNS / options.out.absolute().name
    return folder


def seed_of(options: argparse.Namespace) -> int:
    """Return the random seed of training."""
    return DISTILLATION.seed if options.seed is None else options.seed


def label_weight_of(options: argparse.Namespace) -> float:
    """Return the weight of the labels in the distillation loss."""
    return LABEL_WEIGHT if options.label_weight is None else options.label_weight


def refuse_bundle(folder: Path) -> None:
    """Check, before the long work, that a folder for checkpoints holds no bundle.

    Raises:
        BuildError: it holds one.
    """
    if (folder / MANIFEST).exists():
        raise BuildError(f"{folder} holds a bundle; choose another folder for checkpoints")


def check_runs(options: argparse.Namespace) -> None:
    """Check, before the long work, that checkpoints and the bundle have separate folders.

    Raises:
        BuildError: one folder is the other or inside it, or the folder for checkpoints holds another bundle.
    """
    runs = runs_of(options)
    refuse_bundle(runs)
    # Not `resolve`, which fails if a link points to itself.
    checkpoints, bundle = Path(os.path.realpath(runs)), Path(os.path.realpath(options.out))
    if checkpoints.is_relative_to(bundle) or bundle.is_relative_to(checkpoints):
        raise BuildError(
            f"checkpoints would be in {runs} and the bundle in {options.out}, but neither may be inside the"
            " other; choose another folder with --run"
        )


def schedule_of(options: argparse.Namespace, default: Schedule) -> Schedule:
    """Return how long and how fast to train; `default` holds what the options leave unset."""
    return Schedule(
        default.epochs if options.epochs is None else options.epochs,
        options.batch_size or default.batch_size,
        options.learning_rate or default.learning_rate,
        seed_of(options),
    )


def plan_of(
    recipes: Sequence[Recipe],
    sets: Sequence[PhotoSet],
    calibration: PhotoSet,
    network: Network,
    options: argparse.Namespace,
) -> TrainingPlan | None:
    """Return how recipes train: on the photos of the sets, with one in twenty held out; None without sets.

    Calibration photos say nothing about new photos, so training is validated on the other held-out ones, if
    there are any.

    Raises:
        BuildError: as for `check_trainable`.
    """
    if not sets:
        return None
    photos, held_out = split_held_out(without_repeats(sets))
    calibrated = {photo.sha256 for photo in calibration.photos}
    validation = [photo for photo in held_out if photo.sha256 not in calibrated] or held_out
    plan = TrainingPlan(sets, photos, validation, runs_of(options), seed_of(options))
    check_trainable(recipes, plan, network)
    return plan


def check_trainable(recipes: Sequence[Recipe], plan: TrainingPlan, network: Network) -> None:
    """Check, before the long work, that each recipe that trains has enough photos and a folder of its own.

    Raises:
        BuildError: there are fewer photos than in one of its batches, or its folder holds another run.
    """
    for recipe in recipes:
        if how := recipe.training:
            schedule = plan.schedule(how)
            try:
                steps_of(plan.photos, schedule)
            except BuildError as error:
                raise BuildError(
                    f"recipe {recipe.name}: {error}; leave it out, or name a recipe of your own with a"
                    " smaller batch_size"
                ) from None
            folder = plan.folder(recipe)
            check_folder(plan.photos, network.preprocessing, schedule, how.range_rate, recipe.pruning, folder)
