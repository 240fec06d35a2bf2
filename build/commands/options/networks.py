"""The options of the commands that make networks and variants, measure them or search recipes."""

import argparse
from pathlib import Path

from build.commands.options.shared import (
    calibration_option,
    corrupt_option,
    evaluation_options,
    licence_option,
    network_options,
    recipe_options,
    report_options,
    run_option,
    seed_option,
    training_options,
    unlabelled_option,
)
from build.commands.options.values import (
    COUNT,
    COUNT_OR_NONE,
    FEW_BITS,
    LARGE_SHARE,
    MEGABYTES,
    POSITIVE,
    SEVERAL,
)
from build.search.method import Method
from build.training.schedule import DISTILLATION, OWN_CLASSES

DEFAULT_BASELINES = ("naive",)
SENSITIVITY_IMAGES = 100
SEARCH_IMAGES = 256
ACTIVATION_BITS = (4, 3)
LARGE_SHARES = (0.0, 0.01, 0.02, 0.03)


def all_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `all`."""
    network_options(parser)
    licence_option(parser)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="for your own classes: train, val and test with one folder per class, or just such folders",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="DIR",
        help="for the weights' classes: labelled photos to train and calibrate on (any folders if"
        " --epochs is 0)",
    )
    training_options(parser)
    parser.add_argument(
        "--epochs",
        type=COUNT_OR_NONE,
        help=f"passes over the photos; 0: do not train (default: {OWN_CLASSES.epochs} with --data,"
        f" else {DISTILLATION.epochs})",
    )
    recipe_options(parser)
    parser.add_argument(
        "--baselines",
        nargs="*",
        default=DEFAULT_BASELINES,
        metavar="RECIPE",
        help=f"evaluate these too, but don't keep them (default: {' '.join(DEFAULT_BASELINES)})",
    )
    evaluation_options(parser, required=False)
    corrupt_option(parser)
    report_options(parser)
    run_option(parser)


def train_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `train`."""
    network_options(parser)
    licence_option(parser)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="labelled photos: one folder per class"
    )
    training_options(parser)
    corrupt_option(parser)
    parser.add_argument(
        "--epochs", type=COUNT, help=f"passes over the photos (default: {DISTILLATION.epochs})"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for checkpoints and the result"
    )


def quantize_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `quantize`."""
    network_options(parser)
    licence_option(parser)
    calibration_option(parser)
    unlabelled_option(parser)
    recipe_options(parser)
    seed_option(parser)
    corrupt_option(parser)
    run_option(parser)


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `add`."""
    parser.add_argument("out", type=Path, metavar="bundle")
    calibration_option(parser)
    unlabelled_option(parser)
    parser.add_argument(
        "--recipes", nargs="+", required=True, metavar="RECIPE", help="recipe names or .toml files"
    )
    seed_option(parser)
    corrupt_option(parser)
    run_option(parser)


def sensitivity_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sensitivity`."""
    network_options(parser)
    calibration_option(parser)
    parser.add_argument(
        "--images",
        type=SEVERAL,
        default=SENSITIVITY_IMAGES,
        help="photos to measure on (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the picture and the numbers"
    )
    corrupt_option(parser)


def activations_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `activations`."""
    network_options(parser)
    calibration_option(parser)
    evaluation_options(parser)
    corrupt_option(parser)
    parser.add_argument(
        "--bits",
        type=FEW_BITS,
        nargs="+",
        default=ACTIVATION_BITS,
        help=f"bits of small values (default: {' '.join(map(str, ACTIVATION_BITS))})",
    )
    parser.add_argument(
        "--large",
        type=LARGE_SHARE,
        nargs="+",
        default=LARGE_SHARES,
        metavar="SHARE",
        help="share of a tensor's values that are large"
        f" (default: {' '.join(f'{share:g}' for share in LARGE_SHARES)})",
    )


def search_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `search`."""
    network_options(parser)
    calibration_option(parser)
    parser.add_argument(
        "--images",
        type=SEVERAL,
        default=SEARCH_IMAGES,
        help="photos to measure losses on (default: %(default)s)",
    )
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--megabytes", type=MEGABYTES, help="search weight steps for about this packed size")
    budget.add_argument(
        "--milliseconds",
        type=POSITIVE,
        help="search float blocks for this inference time, by --profile",
    )
    parser.add_argument(
        "--method",
        type=Method,
        choices=list(Method),
        help="for --megabytes: by the gradient of the loss, or, for comparison, greedy or uniform"
        f" (default: {Method.DIFFERENTIABLE})",
    )
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help="for --milliseconds: the output of `service profile --json` for a float32 and an int8 variant",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="NAME.toml",
        help="the recipe to write, for a variant of that name",
    )
    corrupt_option(parser)
