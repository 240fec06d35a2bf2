"""`python -m build add`: more variants for a bundle."""

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
        StartError: it can't be done.
    """
    check_destination(options.out)
    recipes = load_recipes(options.recipes)
    bundle = load_bundle(options.out)
    verify(bundle)
    if BASELINE not in bundle.manifest.variants:
        raise BuildError(
            f"{options.out} has no variant {BASELINE}, which holds the network's weights: add to the bundle"
            " that it comes from, and make a subset of that"
        )
    make_variants(load_network(str(options.out)), recipes, options, command, bundle)
    show(
        f"{options.out} has no accuracy, baselines and latency any more: evaluate and report its variants"
        " side by side"
    )
