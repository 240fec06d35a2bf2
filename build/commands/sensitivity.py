"""`python -m build sensitivity`: measure which parts of a network lose in int8."""

import argparse

from build.commands.network import network_of
from build.commands.output import show
from build.commands.photo_sets import readable_sets
from build.quantization.recipe import load_recipe
from build.quantization.sensitivity import measure_sensitivity, photos_apart
from build.quantization.sensitivity_report import NUMBERS, PICTURE, sensitivity_table, write_sensitivity
from service.host.output import check_writable

_RECIPE = "ptq"


def run(options: argparse.Namespace, _command: str) -> None:
    """Measure which parts lose, print a table, and write a picture and the numbers.

    Raises:
        StartError: the command can't be carried out.
    """
    network = network_of(options)
    wanted = load_recipe(_RECIPE).representative_images
    apart = photos_apart(options.calibration, wanted, options.images)
    calibration, others = readable_sets(apart, network, options)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in (PICTURE, NUMBERS):
        check_writable(options.out / name)
    measured = measure_sensitivity(network, calibration, others)
    picture, numbers = write_sensitivity(measured, options.out)
    show(f"{sensitivity_table(measured)}\n\n{picture} and {numbers}")
