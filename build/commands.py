"""The build stage's commands: what each does with its options."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from build.assembly.assemble import check_destination, refuse_other_classes
from build.assembly.importing import import_models, named_models
from build.assembly.variants import check_fit, quantize
from build.errors import BuildError
from build.evidence.devices import BEGIN, END, device_tables, read_reports
from build.evidence.evaluation import record_evaluation
from build.evidence.large_activations import activations_table, simulate_activations
from build.evidence.report import insert_between, renew_report, split_at_markers
from build.evidence.subset import write_subset
from build.evidence.tables import evaluation_table
from build.network.weights import Network, load_network, weights_digest
from build.photos.data import PhotoSet, labelled_photos, refuse_overlap, sample
from build.quantization.recipe import Recipe, load_recipe, load_recipes
from build.quantization.sensitivity import measure_sensitivity, photos_apart
from build.quantization.sensitivity_report import sensitivity_table, write_sensitivity
from build.search.latency import read_times, search_blocks
from build.search.method import Method
from build.search.recipes import new_recipe, recipe_text, search_steps
from build.signing import sign_bundle
from build.steps import (
    QUANTIZED_TRAINING_OPTIONS,
    check_runs,
    label_weight_of,
    network_of,
    plan_of,
    readable_sets,
    refuse_bundle,
    refuse_unused,
    report,
    sample_for,
    schedule_of,
    show,
    training_sets,
    unlabelled_sets,
)
from build.training.fine_tuning import train_network
from build.training.schedule import DISTILLATION
from build.whole import build_all
from service.bundle.folder import Bundle, check_replaceable, load_bundle, verify
from service.bundle.manifest import BASELINE, CLASS_IDS, LABELS, SIGNATURE
from service.host.output import write_whole

SENSITIVITY_RECIPE = "ptq"
# What is large among millions of values needs no more.
ACTIVATION_PHOTOS = 100


def run(options: argparse.Namespace, command: str) -> None:
    """Run the command that `options` name; `command` is the whole command line, for the records.

    Where that leaves a signed bundle with a new manifest, and so without a signature, it says so.

    Raises:
        StartError: it can't be done.
    """
    folder: Path | None = vars(options).get("bundle") or vars(options).get("out")
    if folder is None:  # No bundle changes.
        _run(options, command)
        return
    signature = folder / SIGNATURE
    was_signed = signature.is_file()
    try:
        _run(options, command)
    finally:
        if was_signed and not signature.is_file():
            show(f"{folder} is not signed any more, since its manifest is new: sign it again by `build sign`")


def _run(options: argparse.Namespace, command: str) -> None:
    if options.command in _RECORDED:
        _RECORDED[options.command](options, command)
    else:
        _OTHERS[options.command](options)


def _train(options: argparse.Namespace, command: str) -> None:
    refuse_bundle(options.out)
    start = network_of(options)
    sets = readable_sets(training_sets(start, options.data, options.unlabelled), start, options)
    schedule = schedule_of(options, DISTILLATION)
    train_network(start, sets, schedule, label_weight_of(options), options.out, command)
    show(f"{options.out}: trained; use it as --weights {options.out}")


def _quantize(options: argparse.Namespace, command: str) -> None:
    check_destination(options.out)
    recipes = load_recipes(options.recipes)
    network = network_of(options)
    refuse_other_classes(options.out, network.classes)
    _make(network, recipes, options, command)


def _add(options: argparse.Namespace, command: str) -> None:
    check_destination(options.out)
    recipes = load_recipes(options.recipes)
    bundle = load_bundle(options.out)
    verify(bundle)
    if BASELINE not in bundle.manifest.variants:
        raise BuildError(
            f"{options.out} has no variant {BASELINE}, which holds the network's weights: add to the bundle"
            " that it comes from, and make a subset of that"
        )
    _make(load_network(str(options.out)), recipes, options, command, bundle)
    show(
        f"{options.out} has no accuracy, baselines and latency any more: evaluate and report its variants"
        " side by side"
    )


def _make(
    network: Network,
    recipes: Sequence[Recipe],
    options: argparse.Namespace,
    command: str,
    beside: Bundle | None = None,
) -> None:
    """Make the recipes' variants at `--out`, and show what lies there then."""
    check_fit(network, recipes)
    sets: list[PhotoSet] = []
    if any(recipe.training for recipe in recipes):
        check_runs(options)
        sets = unlabelled_sets(options)
    else:
        refuse_unused(options, QUANTIZED_TRAINING_OPTIONS, "where no recipe trains")
    calibration = sample_for(recipes, options.calibration, sets)
    *sets, calibration = readable_sets([*sets, calibration], network, options)
    plan = plan_of(recipes, sets, network, options)
    bundle = quantize(network, recipes, calibration, command, options.out, plan, beside)
    for name, variant in bundle.manifest.variants.items():
        show(f"{bundle.variant_path(name)}: {variant.stored.bytes / 1e6:.1f} MB")


def _evaluate(options: argparse.Namespace) -> None:
    bundle = load_bundle(options.bundle)
    check_replaceable(options.bundle)
    start = _start_of(bundle, options.start) if options.start else None
    (evaluation,) = readable_sets(
        [labelled_photos(options.evaluation, bundle.classes)], bundle.manifest, options
    )
    bundle = record_evaluation(
        bundle,
        evaluation.images,
        evaluation.name,
        options.crop,
        allow_seen=options.allow_seen,
        start=start,
        baselines=[load_bundle(path) for path in options.baseline],
    )
    show(evaluation_table(renew_report(bundle).manifest))


def _report(options: argparse.Namespace) -> None:
    if (options.bundle is None) == (options.devices is None):
        raise BuildError("report takes a bundle, or --devices with reports of devices")
    if options.bundle:
        bundle = load_bundle(options.bundle)
        check_replaceable(options.bundle)
        if options.insert:
            split_at_markers(options.insert)
        report(bundle, options)
        return
    refuse_unused(options, ["runs"], "with --devices, whose reports were measured already")
    tables = device_tables(read_reports(options.devices))
    if options.insert:
        insert_between(options.insert, BEGIN, END, tables)
    show(tables)


def _subset(options: argparse.Namespace) -> None:
    check_destination(options.out)
    source, out = options.source.resolve(), options.out.resolve()
    if source in (out, *out.parents):
        raise BuildError(
            f"{options.out} is in {options.source}, which would lose its files; name another folder"
        )
    bundle = load_bundle(options.source)
    verify(bundle)
    refuse_other_classes(options.out, bundle.classes)
    smaller = write_subset(bundle, options.variants, options.out)
    size = sum(file.stat().st_size for file in smaller.path.iterdir())
    show(f"{options.out}: {size / 1e6:.1f} MB in all; serve it with EDGEWISE_BUNDLE={options.out} make serve")


def _sensitivity(options: argparse.Namespace) -> None:
    network = network_of(options)
    wanted = load_recipe(SENSITIVITY_RECIPE).representative_images
    apart = photos_apart(options.calibration, wanted, options.images)
    calibration, others = readable_sets(apart, network, options)
    options.out.mkdir(parents=True, exist_ok=True)
    measured = measure_sensitivity(network, calibration, others)
    picture, numbers = write_sensitivity(measured, options.out)
    show(f"{sensitivity_table(measured)}\n\n{picture} and {numbers}")


def _activations(options: argparse.Namespace) -> None:
    network = network_of(options)
    calibration = sample(options.calibration, ACTIVATION_PHOTOS)
    evaluation = labelled_photos(options.evaluation, network.classes)
    calibration, evaluation = readable_sets([calibration, evaluation], network, options)
    if not options.allow_seen:
        refuse_overlap([calibration], evaluation, network.seen_images)
    simulated = simulate_activations(
        network,
        calibration,
        evaluation,
        options.crop,
        # What is named twice is measured once.
        list(dict.fromkeys(options.bits)),
        list(dict.fromkeys(options.large)),
    )
    show(
        f"{activations_table(simulated)}\n\nSimulated in float, on {len(evaluation.photos)} photos of"
        f" {evaluation.name}, crop {options.crop}; weights in float."
    )


def _search(options: argparse.Namespace, command: str) -> None:
    found = _search_steps(options) if options.megabytes else _search_blocks(options)
    write_whole(options.out, recipe_text(found, command).encode())
    show(f"{options.out}: make it with `quantize --recipes {options.out}`")


def _search_steps(options: argparse.Namespace) -> Recipe:
    if options.profile:
        raise BuildError("--profile goes with --milliseconds")
    recipe = new_recipe(options.out)
    network = network_of(options)
    (photos,) = readable_sets([sample(options.calibration, options.images)], network, options)
    method = options.method or Method.DIFFERENTIABLE
    return search_steps(network, recipe, photos, method, round(1e6 * options.megabytes))


def _search_blocks(options: argparse.Namespace) -> Recipe:
    if not options.profile:
        raise BuildError("--milliseconds needs the --profile of a device")
    if options.method:
        raise BuildError("--method goes with --megabytes; there is one way for --milliseconds")
    recipe = new_recipe(options.out, wire=None)
    network = network_of(options)
    times = read_times(options.profile, network)
    apart = photos_apart(options.calibration, recipe.representative_images, options.images)
    calibration, others = readable_sets(apart, network, options)
    found = search_blocks(network, recipe, calibration, others, times, options.milliseconds / 1e3)
    blocks, predicted = ", ".join(found.float_blocks), 1e3 * times.predicted(found.float_blocks)
    show(
        f"{blocks} in float: {predicted:.2f} ms by the profile, where int8 alone takes {1e3 * times.int8:.2f}"
    )
    return found


def _import(options: argparse.Namespace, command: str) -> None:
    check_destination(options.out)
    models = named_models(options.models)
    bundle = import_models(
        models,
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
        delegate=options.delegate,
    )
    show(f"{bundle.path}: serve it with EDGEWISE_BUNDLE={options.out} make serve")
    if len(models) > 1 and BASELINE not in models:
        show(f"none is named {BASELINE}, which tables compare the others with: name it by {BASELINE}=FILE")


def _sign(options: argparse.Namespace) -> None:
    signature = sign_bundle(options.bundle, options.key)
    show(f"{signature}: serve the bundle with the public key as EDGEWISE_BUNDLE_PUBLIC_KEY")


def _start_of(bundle: Bundle, weights: str) -> Network:
    """The weights that a bundle's training started from; they must have its classes and its size."""
    network = load_network(
        weights,
        labels=bundle.path / LABELS,
        class_ids=bundle.path / CLASS_IDS if bundle.class_ids else None,
        size=bundle.manifest.preprocessing.height,
    )
    training = bundle.manifest.training
    if training is None or weights_digest(network.weights) != training.started_from_sha256:
        raise BuildError(f"--start {weights} is not what the training of {bundle.path} started from")
    return network


# Those that leave the command line in what they make, and those that don't.
_RECORDED: dict[str, Callable[[argparse.Namespace, str], None]] = {
    "all": build_all,
    "train": _train,
    "quantize": _quantize,
    "add": _add,
    "search": _search,
    "import": _import,
}
_OTHERS: dict[str, Callable[[argparse.Namespace], None]] = {
    "evaluate": _evaluate,
    "report": _report,
    "subset": _subset,
    "sensitivity": _sensitivity,
    "activations": _activations,
    "sign": _sign,
}
