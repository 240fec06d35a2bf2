"""`python -m build add`: add variants to a bundle."""

import argparse

from build.assembly.assemble import check_destination
from build.commands.output import show
from build.commands.quantize import make_variants
from build.errors import BuildError
from build.network.weights import load_network
from build.quantization.recipe import load_recipes
from service.bundle.folder import load_bundle, verify
from service.bundle.manifest import BASELINE


def run(options: argparse.Namespace, command: str) -> None:
    """Add the recipes' variants to a bundle, leaving its others unchanged.

    Raises:
        StartError: the command can't be carried out.
    """
    check_destination(options.out)
    recipes = load_recipes(options.recipes)
    bundle = load_bundle(options.out)
    verify(bundle)
    if BASELINE not in bundle.manifest.variants:
        raise BuildError(
            f"{options.out} has no variant {BASELINE}, which holds the network's weights: add to the bundle"
            " that it was made from, then make a subset of that"
        )
    make_variants(load_network(str(options.out)), recipes, options, command, bundle)
    show(
        f"{options.out} no longer has accuracy, baselines and latency: measure its variants again, side by"
        " side, with `evaluate` and `report`"
    )
