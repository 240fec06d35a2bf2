"""`python -m build search`: search for a recipe with a given packed size or inference time."""

import argparse

from build.commands.network import network_of
from build.commands.options.shared import DEFAULT_WEIGHTS
from build.commands.output import show
from build.commands.photo_sets import readable_sets
from build.errors import BuildError
from build.photos.data import sample
from build.quantization.recipe import Recipe
from build.quantization.sensitivity import photos_apart
from build.search.latency import read_times, search_blocks
from build.search.method import Method
from build.search.recipes import new_recipe, recipe_text, search_steps
from service.host.output import write_whole


def run(options: argparse.Namespace, command: str) -> None:
    """Search for a recipe, and write it.

    Raises:
        StartError: the command can't be carried out.
    """
    found = _search_steps(options) if options.megabytes else _search_blocks(options)
    write_whole(options.out, recipe_text(found, command).encode())
    same = "" if options.weights == str(DEFAULT_WEIGHTS) else ", with the same weights and classes"
    show(f"{options.out}: make the variant with `quantize` or `add`{same}, and `--recipes {options.out}`")


def _search_steps(options: argparse.Namespace) -> Recipe:
    if options.profile:
        raise BuildError("--profile needs --milliseconds")
    recipe = new_recipe(options.out)
    network = network_of(options)
    (photos,) = readable_sets([sample(options.calibration, options.images)], network, options)
    method = options.method or Method.DIFFERENTIABLE
    return search_steps(network, recipe, photos, method, round(1e6 * options.megabytes))


def _search_blocks(options: argparse.Namespace) -> Recipe:
    if not options.profile:
        raise BuildError("--milliseconds needs the --profile of a device")
    if options.method:
        raise BuildError("--method needs --megabytes; there is only one method for --milliseconds")
    recipe = new_recipe(options.out, wire=None)
    network = network_of(options)
    times = read_times(options.profile, network)
    apart = photos_apart(options.calibration, recipe.representative_images, options.images)
    calibration, others = readable_sets(apart, network, options)
    found = search_blocks(network, recipe, calibration, others, times, options.milliseconds / 1e3)
    blocks, predicted = ", ".join(found.float_blocks), 1e3 * times.predicted(found.float_blocks)
    show(f"{blocks} in float: {predicted:.2f} ms by the profile; int8 alone takes {1e3 * times.int8:.2f} ms")
    return found
