"""The build stage's commands: what each does with its options."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from build.assemble import check_destination, quantize
from build.data import PhotoSet, labelled_photos, refuse_overlap, sample, training_photos, unlabelled_photos
from build.evaluation import record_evaluation
from build.importing import import_model
from build.model_card import evaluation_table, variant_table
from build.picture import PICTURE
from build.readable import readable
from build.recipe import Recipe, load_recipes
from build.report import insert_table, renew_report, split_at_markers, write_report
from build.schedule import Schedule
from build.training import train_network
from build.weights import Network, load_network
from service.bundle import Bundle, load_bundle
from service.inference.labelled import refuse_two_labels
from service.manifest import CLASS_IDS, LABELS, MODEL_CARD, Manifest

RUNS = Path("runs")


def run(options: argparse.Namespace, command: str) -> None:
    """Run the command that `options` name; `command` is the whole command line, for the records.

    Raises:
        StartError: it can't be done.
    """
    match options.command:
        case "all":
            _all(options, command)
        case "train":
            _train(options, command)
        case "quantize":
            _quantize(options, command)
        case "evaluate":
            _evaluate(options)
        case "report":
            _write_report(load_bundle(options.bundle), options)
        case "import":
            _import(options, command)


def _all(options: argparse.Namespace, command: str) -> None:
    start = _network(options)
    recipes = load_recipes(options.recipes)
    check_destination(options.out)
    if options.insert:
        split_at_markers(options.insert)
    sets, calibration, evaluation = _all_photos(start, recipes, options)
    network = start
    if options.epochs:
        folder = options.run_folder or RUNS / options.out.absolute().name
        network = train_network(start, sets, _schedule(options), folder, command)
    bundle = quantize(network, recipes, calibration, command, options.out)
    baseline = start if options.epochs else None
    bundle = _record_evaluation(bundle, evaluation, options, baseline)
    _write_report(bundle, options)
    _show(f"Serve it with EDGEWISE_BUNDLE={options.out} make serve")


def _all_photos(
    start: Network, recipes: Sequence[Recipe], options: argparse.Namespace
) -> tuple[list[PhotoSet], PhotoSet, PhotoSet]:
    """What to train on, to calibrate on and to evaluate on: each file hashed once, each photo decoded once.

    What is wrong with them is said here, and not when the long work is done.
    """
    sets = _training_sets(start, options.calibration, options.unlabelled) if options.epochs else []
    calibration = _sample(recipes, options.calibration, sets)
    evaluation = labelled_photos(options.evaluation, start.classes)
    *sets, calibration, evaluation = _readable([*sets, calibration, evaluation], start, options)
    if not options.allow_seen:
        refuse_overlap([*sets, calibration], evaluation, start.seen_images)
    return sets, calibration, evaluation


def _train(options: argparse.Namespace, command: str) -> None:
    start = _network(options)
    sets = _readable(_training_sets(start, options.data, options.unlabelled), start, options)
    train_network(start, sets, _schedule(options), options.out, command)
    _show(f"{options.out}: trained; use it as --weights {options.out}")


def _quantize(options: argparse.Namespace, command: str) -> None:
    check_destination(options.out)
    recipes = load_recipes(options.recipes)
    network = _network(options)
    (calibration,) = _readable([_sample(recipes, options.calibration)], network, options)
    bundle = quantize(network, recipes, calibration, command, options.out)
    for name, variant in bundle.manifest.variants.items():
        _show(f"{bundle.variant_path(name)}: {variant.bytes / 1e6:.1f} MB")


def _evaluate(options: argparse.Namespace) -> None:
    bundle = load_bundle(options.bundle)
    start = _start_of(bundle, options.start) if options.start else None
    (evaluation,) = _readable([labelled_photos(options.evaluation, bundle.classes)], bundle.manifest, options)
    bundle = _record_evaluation(bundle, evaluation, options, start)
    _show(evaluation_table(renew_report(bundle).manifest))


def _record_evaluation(
    bundle: Bundle, evaluation: PhotoSet, options: argparse.Namespace, start: Network | None
) -> Bundle:
    return record_evaluation(
        bundle, evaluation.images, evaluation.name, options.crop, allow_seen=options.allow_seen, start=start
    )


def _import(options: argparse.Namespace, command: str) -> None:
    bundle = import_model(
        options.model,
        options.out,
        labels=options.labels,
        class_ids=options.class_ids,
        output=options.output,
        mean=options.mean,
        std=options.std,
        resize=options.resize,
        crop_fraction=options.crop_fraction,
        filter_=options.filter,
        licence=options.licence,
        command=command,
    )
    _show(f"{bundle.path}: serve it with EDGEWISE_BUNDLE={options.out} make serve")


def _network(options: argparse.Namespace) -> Network:
    return load_network(
        options.weights, labels=options.labels, class_ids=options.class_ids, size=options.size
    )


def _start_of(bundle: Bundle, weights: str) -> Network:
    """The weights that a bundle's training started from; they must have its classes and its size."""
    return load_network(
        weights,
        labels=bundle.path / LABELS,
        class_ids=bundle.path / CLASS_IDS if bundle.class_ids else None,
        size=bundle.manifest.preprocessing.height,
    )


def _schedule(options: argparse.Namespace) -> Schedule:
    return Schedule(
        options.epochs, options.batch_size, options.learning_rate, options.label_weight, options.seed
    )


def _training_sets(network: Network, labelled: Path, unlabelled: Sequence[Path]) -> list[PhotoSet]:
    return [training_photos(labelled, network.classes), *map(unlabelled_photos, unlabelled)]


def _sample(recipes: Sequence[Recipe], folder: Path, known: Sequence[PhotoSet] = ()) -> PhotoSet:
    """As many representative photos as the recipe with the most wants."""
    most = max(recipe.representative_images for recipe in recipes)
    return sample(folder, most, known)


def _readable(
    sets: Sequence[PhotoSet], of: Network | Manifest, options: argparse.Namespace
) -> list[PhotoSet]:
    """The sets, checked: what can't be read is refused or left out, and no image has two labels."""
    kept = readable(sets, of.preprocessing, skip_corrupt=options.skip_corrupt)
    for photo_set in kept:
        refuse_two_labels(photo_set.images)
    return kept


def _write_report(bundle: Bundle, options: argparse.Namespace) -> None:
    bundle = write_report(bundle, options.runs)
    if options.insert:
        insert_table(bundle.manifest, options.insert)
    _show(variant_table(bundle.manifest))
    _show(f"\n{bundle.path / MODEL_CARD} and {bundle.path / PICTURE}")


def _show(text: str) -> None:
    sys.stdout.write(text + "\n")
