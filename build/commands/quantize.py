"""`python -m build quantize`: make a bundle of a network's variants."""

import argparse
import os
from collections.abc import Sequence

from build.assembly.assemble import check_destination, refuse_other_classes
from build.assembly.variants import check_fit, quantize
from build.commands.network import network_of
from build.commands.options.unused import refuse_unused
from build.commands.output import show
from build.commands.photo_sets import readable_sets, sample_for, unlabelled_sets
from build.commands.training_plan import QUANTIZED_TRAINING_OPTIONS, check_runs, plan_of
from build.errors import BuildError
from build.network.weights import Network
from build.photos.data import PhotoSet
from build.quantization.recipe import Recipe, load_recipes
from service.bundle.folder import Bundle
from service.bundle.manifest import BASELINE


def run(options: argparse.Namespace, command: str) -> None:
    """Make a bundle of the recipes' variants.

    Raises:
        StartError: the command can't be carried out.
    """
    check_destination(options.out)
    recipes = load_recipes(options.recipes)
    refuse_losing_weights(options, recipes)
    network = network_of(options)
    refuse_other_classes(options.out, network.classes)
    make_variants(network, recipes, options, command)


def refuse_losing_weights(options: argparse.Namespace, recipes: Sequence[Recipe]) -> None:
    """Check that the bundle at `--out` is not replaced by one without the weights that are read from it.

    Raises:
        BuildError: it is.
    """
    if BASELINE in [recipe.name for recipe in recipes]:
        return
    # Not `resolve`, which fails if a link points to itself.
    if os.path.realpath(options.weights) == os.path.realpath(options.out):
        raise BuildError(
            f"{options.out} would lose its variant {BASELINE}, which holds the network's weights: `add` puts"
            " variants into it; or choose another folder"
        )


def make_variants(
    network: Network,
    recipes: Sequence[Recipe],
    options: argparse.Namespace,
    command: str,
    beside: Bundle | None = None,
) -> None:
    """Make the recipes' variants in the bundle at `--out`, and print the sizes of all its variants.

    `beside` is the bundle that is there already, whose variants are kept.
    """
    check_fit(network, recipes)
    sets: list[PhotoSet] = []
    if any(recipe.training for recipe in recipes):
        check_runs(options)
        sets = unlabelled_sets(options)
    else:
        refuse_unused(options, QUANTIZED_TRAINING_OPTIONS, "because no recipe trains")
    calibration = sample_for(recipes, options.calibration, sets)
    *sets, calibration = readable_sets([*sets, calibration], network, options)
    plan = plan_of(recipes, sets, calibration, network, options)
    bundle = quantize(network, recipes, calibration, command, options.out, plan, beside)
    for name, variant in bundle.manifest.variants.items():
        show(f"{bundle.variant_path(name)}: {variant.stored.bytes / 1e6:.1f} MB")
