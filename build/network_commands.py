"""The commands that make networks and variants, or simulate them: they load TensorFlow."""

import argparse
from collections.abc import Callable, Sequence

from build.assembly.assemble import check_destination, refuse_other_classes
from build.assembly.variants import check_fit, quantize
from build.bundle_steps import readable_sets, refuse_unused, show
from build.errors import BuildError
from build.evidence.large_activations import activations_table, simulate_activations
from build.network.weights import Network, load_network
from build.photos.data import PhotoSet, labelled_photos, refuse_overlap, sample
from build.quantization.recipe import Recipe, load_recipe, load_recipes
from build.quantization.sensitivity import measure_sensitivity, photos_apart
from build.quantization.sensitivity_report import NUMBERS, PICTURE, sensitivity_table, write_sensitivity
from build.search.latency import read_times, search_blocks
from build.search.method import Method
from build.search.recipes import new_recipe, recipe_text, search_steps
from build.steps import (
    QUANTIZED_TRAINING_OPTIONS,
    check_runs,
    label_weight_of,
    network_of,
    plan_of,
    refuse_bundle,
    sample_for,
    schedule_of,
    training_sets,
    unlabelled_sets,
)
from build.training.fine_tuning import train_network
from build.training.schedule import DISTILLATION
from build.whole import build_all
from service.bundle.folder import SEEN_DIGITS, Bundle, load_bundle, verify
from service.bundle.manifest import BASELINE
from service.host.output import check_writable, write_whole

SENSITIVITY_RECIPE = "ptq"
# What is large among millions of values needs no more.
ACTIVATION_PHOTOS = 100


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
    plan = plan_of(recipes, sets, calibration, network, options)
    bundle = quantize(network, recipes, calibration, command, options.out, plan, beside)
    for name, variant in bundle.manifest.variants.items():
        show(f"{bundle.variant_path(name)}: {variant.stored.bytes / 1e6:.1f} MB")


def _sensitivity(options: argparse.Namespace, _command: str) -> None:
    network = network_of(options)
    wanted = load_recipe(SENSITIVITY_RECIPE).representative_images
    apart = photos_apart(options.calibration, wanted, options.images)
    calibration, others = readable_sets(apart, network, options)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in (PICTURE, NUMBERS):
        check_writable(options.out / name)
    measured = measure_sensitivity(network, calibration, others)
    picture, numbers = write_sensitivity(measured, options.out)
    show(f"{sensitivity_table(measured)}\n\n{picture} and {numbers}")


def _activations(options: argparse.Namespace, _command: str) -> None:
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
    seen = sum(photo.sha256[:SEEN_DIGITS] in network.seen_images for photo in evaluation.photos)
    marked = f" {seen} of the photos are among those that the weights come from." if seen else ""
    show(
        f"{activations_table(simulated)}\n\nSimulated in float, on {len(evaluation.photos)} photos of"
        f" {evaluation.name}, crop {options.crop}; weights in float.{marked}"
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


COMMANDS: dict[str, Callable[[argparse.Namespace, str], None]] = {
    "all": build_all,
    "train": _train,
    "quantize": _quantize,
    "add": _add,
    "sensitivity": _sensitivity,
    "activations": _activations,
    "search": _search,
}
"""What each does with its options and the whole command line, which some leave in what they make."""
