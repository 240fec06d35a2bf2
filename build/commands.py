"""The build stage's commands: what each does with its options."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from build.assemble import quantize
from build.data import PhotoSet, check_readable, labelled_photos, refuse_overlap, sample, unlabelled_photos
from build.evaluation import record_evaluation
from build.importing import import_model
from build.model_card import evaluation_table, variant_table
from build.picture import PICTURE
from build.recipe import load_recipe
from build.report import insert_table, write_report
from build.schedule import Schedule
from build.training import train_network
from build.weights import Network, load_network
from service.bundle import Bundle, load_bundle
from service.manifest import MODEL_CARD

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
    sets = _training_sets(start, options.calibration, options.unlabelled) if options.epochs else []
    if not options.allow_seen:
        # Training takes long: what would end it at the end is said at once.
        refuse_overlap([*sets, unlabelled_photos(options.calibration)], options.evaluation)
    network = start
    if options.epochs:
        folder = options.run_folder or RUNS / options.out.name
        network = train_network(start, sets, _schedule(options), folder, command)
    bundle = _make_bundle(network, options, command)
    baseline = start if options.epochs else None
    bundle = record_evaluation(
        bundle, options.evaluation, options.crop, allow_seen=options.allow_seen, start=baseline
    )
    _write_report(bundle, options)


def _train(options: argparse.Namespace, command: str) -> None:
    start = _network(options)
    sets = _training_sets(start, options.data, options.unlabelled)
    network = train_network(start, sets, _schedule(options), options.out, command)
    _show(f"{options.out}: trained on {len(network.seen_images)} photos; use it as --weights {options.out}")


def _quantize(options: argparse.Namespace, command: str) -> None:
    bundle = _make_bundle(_network(options), options, command)
    for name, variant in bundle.manifest.variants.items():
        _show(f"{bundle.variant_path(name)}: {variant.bytes / 1e6:.1f} MB")


def _evaluate(options: argparse.Namespace) -> None:
    start = load_network(options.start) if options.start else None
    bundle = record_evaluation(
        load_bundle(options.bundle),
        options.evaluation,
        options.crop,
        allow_seen=options.allow_seen,
        start=start,
    )
    _show(evaluation_table(bundle.manifest))


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


def _schedule(options: argparse.Namespace) -> Schedule:
    return Schedule(
        options.epochs, options.batch_size, options.learning_rate, options.label_weight, options.seed
    )


def _training_sets(network: Network, labelled: Path, unlabelled: Sequence[Path]) -> list[PhotoSet]:
    return [labelled_photos(labelled, network.classes), *map(unlabelled_photos, unlabelled)]


def _make_bundle(network: Network, options: argparse.Namespace, command: str) -> Bundle:
    recipes = [load_recipe(recipe) for recipe in options.recipes]
    calibration = sample(options.calibration, max(recipe.representative_images for recipe in recipes))
    check_readable(calibration.photos, network.preprocessing)
    return quantize(network, recipes, calibration, command, options.out)


def _write_report(bundle: Bundle, options: argparse.Namespace) -> None:
    bundle = write_report(bundle, options.runs)
    if options.insert:
        insert_table(bundle.manifest, options.insert)
    _show(variant_table(bundle.manifest))
    _show(f"\n{bundle.path / MODEL_CARD} and {bundle.path / PICTURE}")


def _show(text: str) -> None:
    sys.stdout.write(text + "\n")
