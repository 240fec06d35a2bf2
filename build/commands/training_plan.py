"""How a command trains, by its options: for how long, from which photos, with checkpoints in which folder."""

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
"""What only a training takes, of the options of all commands that make variants."""


def runs_of(options: argparse.Namespace) -> Path:
    """Where checkpoints lie: `--run`, or a folder of the bundle's name."""
    folder: Path = options.run or RUNS / options.out.absolute().name
    return folder


def seed_of(options: argparse.Namespace) -> int:
    """What a training's random numbers start from."""
    return DISTILLATION.seed if options.seed is None else options.seed


def label_weight_of(options: argparse.Namespace) -> float:
    """The labels' share of distillation's loss."""
    return LABEL_WEIGHT if options.label_weight is None else options.label_weight


def refuse_bundle(folder: Path) -> None:
    """Check that a folder for checkpoints is no bundle's, before the work that fills it.

    Raises:
        BuildError: a bundle lies there.
    """
    if (folder / MANIFEST).exists():
        raise BuildError(f"{folder} holds a bundle, which checkpoints would be mixed into; name another")


def check_runs(options: argparse.Namespace) -> None:
    """Check that checkpoints and the bundle get a folder each, before the work that fills them.

    Raises:
        BuildError: one of the folders is the other, or in it, or another bundle lies where checkpoints would.
    """
    runs = runs_of(options)
    refuse_bundle(runs)
    # Not `resolve`, which fails where a link leads to itself.
    checkpoints, bundle = Path(os.path.realpath(runs)), Path(os.path.realpath(options.out))
    if checkpoints.is_relative_to(bundle) or bundle.is_relative_to(checkpoints):
        raise BuildError(
            f"checkpoints would lie in {runs}, and the bundle in {options.out}: neither may be in the other;"
            " name another folder by --run"
        )


def schedule_of(options: argparse.Namespace, default: Schedule) -> Schedule:
    """How long and how fast to train; `default` has what the options leave open."""
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
    """What recipes that train do so with: the photos of the sets, but for one in twenty; None without sets.

    Of those, the ones that are calibrated on tell nothing of new photos: training is watched by the others,
    if there are any.

    Raises:
        BuildError: as `check_trainable` says.
    """
    if not sets:
        return None
    photos, held_out = split_held_out(without_repeats(sets))
    calibrated = {photo.sha256 for photo in calibration.photos}
    watched = [photo for photo in held_out if photo.sha256 not in calibrated] or held_out
    plan = TrainingPlan(sets, photos, watched, runs_of(options), seed_of(options))
    check_trainable(recipes, plan, network)
    return plan


def check_trainable(recipes: Sequence[Recipe], plan: TrainingPlan, network: Network) -> None:
    """Check that every recipe that trains has photos enough and a folder, before the work that comes first.

    Raises:
        BuildError: there are fewer photos than one of its batches takes, or its folder holds another run.
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
