"""`python -m build all`: every step in one command, for your own classes or for those of the weights."""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from build.assembly.assemble import check_destination, refuse_other_classes
from build.assembly.variants import TrainingPlan, check_fit, quantize
from build.commands.estimate import estimate, forward_seconds, in_words
from build.commands.network import network_of
from build.commands.options.unused import refuse_unused
from build.commands.output import show
from build.commands.photo_sets import (
    most_representative,
    readable_sets,
    sample_for,
    training_sets,
    unlabelled_sets,
)
from build.commands.quantize import refuse_losing_weights
from build.commands.report import report_on
from build.commands.training_plan import (
    QUANTIZED_TRAINING_OPTIONS,
    check_runs,
    check_trainable,
    label_weight_of,
    plan_of,
    runs_of,
    schedule_of,
    seed_of,
)
from build.errors import BuildError
from build.evidence.evaluation import record_evaluation
from build.evidence.report import split_at_markers
from build.network.weights import Network
from build.photos.data import (
    PhotoSet,
    draw,
    labelled_photos,
    refuse_overlap,
    unlabelled_photos,
    without_repeats,
)
from build.photos.splits import split_folder, write_splits
from build.quantization.recipe import Recipe, load_recipes
from build.training.fine_tuning import train_network
from build.training.schedule import DISTILLATION, OWN_CLASSES
from build.training.transfer import claim_classes, train_classes


@dataclass(frozen=True)
class _Material:
    """What variants are made from and measured on; `start` is the network before training, as a baseline."""

    network: Network
    calibration: PhotoSet
    plan: TrainingPlan | None
    evaluation: PhotoSet
    start: Network | None


def run(options: argparse.Namespace, command: str) -> None:
    """Train, quantize, evaluate and report, after checking everything that can be checked beforehand.

    Raises:
        StartError: the command can't be carried out.
    """
    given = bool(options.data), bool(options.calibration), bool(options.evaluation)
    if given not in {(True, False, False), (False, True, True)}:
        raise BuildError("all takes --data, or both --calibration and --evaluation")
    if options.data:
        refuse_unused(options, ["label-weight"], "with --data, where training uses only the labels")
    if options.epochs == 0:
        refuse_unused(options, ["batch-size", "learning-rate", "label-weight"], "with --epochs 0")
    check_destination(options.out)
    if options.insert:
        split_at_markers(options.insert)
    beside = [name for name in options.baselines if name not in options.recipes]
    recipes = load_recipes([*options.recipes, *beside])
    kept, baselines = recipes[: len(options.recipes)], recipes[len(options.recipes) :]
    refuse_losing_weights(options, kept)
    start = network_of(options)
    check_fit(start, recipes)
    if options.epochs != 0 or any(recipe.training for recipe in recipes):
        check_runs(options)
    else:
        refuse_unused(options, QUANTIZED_TRAINING_OPTIONS, "with --epochs 0 because no recipe trains")
    make = _with_own_classes if options.data else _with_the_weights_classes
    made = make(start, recipes, options, command)
    bundle = quantize(made.network, kept, made.calibration, command, options.out, made.plan)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "baselines"
        bundle = record_evaluation(
            bundle,
            made.evaluation.images,
            made.evaluation.name,
            options.crop,
            allow_seen=options.allow_seen,
            start=made.start,
            baselines=[quantize(made.network, baselines, made.calibration, command, folder, made.plan)]
            if baselines
            else [],
        )
    report_on(bundle, options)
    show(f"Serve it with EDGEWISE_BUNDLE={options.out} make serve")


def _with_own_classes(
    start: Network, recipes: Sequence[Recipe], options: argparse.Namespace, command: str
) -> _Material:
    """Train the network on the classes of your own photos."""
    if options.epochs == 0:
        raise BuildError("--epochs 0 with --data would not learn the classes; set it to 1 or more")
    if not any(recipe.training for recipe in recipes):
        refuse_unused(options, ["unlabelled"], "with --data because no recipe trains")
    splits = split_folder(options.data, start.preprocessing, skip_corrupt=options.skip_corrupt)
    refuse_other_classes(options.out, splits.classes)
    others = readable_sets([unlabelled_photos(path) for path in options.unlabelled], start, options)
    refuse_overlap(others, splits.val)
    if not options.allow_seen:
        refuse_overlap(others, splits.test, _seen(start, recipes))
    schedule = schedule_of(options, OWN_CLASSES)
    photos = without_repeats([splits.train, *others])
    forward = forward_seconds(start.weights, start.preprocessing.height)
    seconds = estimate(
        forward, len(splits.train.photos), len(photos), len(splits.test.photos), schedule, recipes
    )
    runs = runs_of(options)
    plan = TrainingPlan([splits.train, *others], photos, splits.val.photos, runs, seed_of(options))
    check_trainable(recipes, plan, start)
    claim_classes(start, splits, schedule, runs / "train")
    listed = write_splits(splits, runs)
    show(
        f"{len(splits.classes.labels)} classes; {len(splits.train.photos)} photos to train on,"
        f" {len(splits.val.photos)} to validate on, {len(splits.test.photos)} to test on: {listed}"
    )
    show(in_words(seconds))
    network = train_classes(start, splits, schedule, runs / "train", command)
    show(_calibrated(network, len(splits.val.photos)))
    return _Material(
        network=network,
        calibration=draw(splits.train, most_representative(recipes)),
        plan=plan,
        evaluation=splits.test,
        start=None,
    )


def _calibrated(network: Network, photos: int) -> str:
    """Describe how the probabilities were calibrated; `photos` is the number of validation photos."""
    temperature = network.training.temperature if network.training else None
    if temperature is None:
        return f"probabilities as learned: no temperature can be fitted on {photos} validation photos"
    return (
        f"temperature {temperature.value:g}, fitted on {temperature.images.images} validation photos; their"
        f" calibration error: {100 * temperature.ece_before:.1f} % before,"
        f" {100 * temperature.ece_after:.1f} % after"
    )


def _with_the_weights_classes(
    start: Network, recipes: Sequence[Recipe], options: argparse.Namespace, command: str
) -> _Material:
    """Fine-tune the network with distillation, or take it as it is with `--epochs 0`."""
    refuse_other_classes(options.out, start.classes)
    trains = options.epochs != 0
    if trains:
        sets = training_sets(start, options.calibration, options.unlabelled)
    elif any(recipe.training for recipe in recipes):
        sets = unlabelled_sets(options)
    else:
        sets = []
    calibration = sample_for(recipes, options.calibration, sets)
    evaluation = labelled_photos(options.evaluation, start.classes)
    *sets, calibration, evaluation = readable_sets([*sets, calibration, evaluation], start, options)
    if not options.allow_seen:
        refuse_overlap([*sets, calibration], evaluation, _seen(start, recipes))
    plan = plan_of(recipes, sets, calibration, start, options)
    network = start
    if trains:
        schedule = schedule_of(options, DISTILLATION)
        folder = runs_of(options) / "train"
        network = train_network(start, sets, schedule, label_weight_of(options), folder, command)
    return _Material(
        network=network,
        calibration=calibration,
        plan=plan,
        evaluation=evaluation,
        start=start if trains else None,
    )


def _seen(start: Network, recipes: Sequence[Recipe]) -> frozenset[str]:
    """Return the first SHA-256 digits of the photos that the weights and the recipes come from."""
    return start.seen_images.union(*(recipe.searched_on for recipe in recipes))
