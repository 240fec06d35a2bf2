"""Options that several commands take."""

import argparse
from pathlib import Path

from build.commands.options.values import COUNT, COUNT_OR_NONE, POSITIVE, SIZE, WEIGHT
from build.network.architecture import INPUT_SIZE
from build.training.schedule import DISTILLATION, LABEL_WEIGHT, OWN_CLASSES
from service.images.pixels import Crop

DEFAULT_RECIPES = ("fp32", "fp16", "dynamic", "ptq", "qat")
DEFAULT_WEIGHTS = Path(__file__).parents[3] / "models" / "imagenet-1k"
BENCHMARK_RUNS = 200


def network_options(parser: argparse.ArgumentParser) -> None:
    """Add `--weights`, `--labels`, `--class-ids` and `--size`, which name a network."""
    parser.add_argument(
        "--weights",
        default=str(DEFAULT_WEIGHTS),
        help="a bundle's folder (default: the default bundle), imagenet (Keras' download), a model or weights"
        " saved by Keras (.keras, .h5), or the output folder of train",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="one label per line (default: ImageNet's)"
    )
    parser.add_argument(
        "--class-ids", type=Path, metavar="FILE", help="one class id per line (default: ImageNet's)"
    )
    parser.add_argument(
        "--size", type=SIZE, help=f"the input's side in pixels (default: the model's, or {INPUT_SIZE})"
    )


def licence_option(parser: argparse.ArgumentParser) -> None:
    """Add `--licence`."""
    parser.add_argument(
        "--licence",
        help="licence of the weights (default: their bundle's or folder's; imagenet: Apache-2.0;"
        " else unknown)",
    )


def training_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of training, except `--epochs`, whose default depends on the command."""
    unlabelled_option(parser)
    parser.add_argument(
        "--batch-size", type=COUNT, help=f"photos per training step (default: {DISTILLATION.batch_size})"
    )
    parser.add_argument(
        "--learning-rate",
        type=POSITIVE,
        help=f"highest learning rate (default: {DISTILLATION.learning_rate:g}; all --data:"
        f" {OWN_CLASSES.learning_rate:g})",
    )
    parser.add_argument(
        "--label-weight",
        type=WEIGHT,
        help=f"weight of the labels in the distillation loss (default: {LABEL_WEIGHT})",
    )
    seed_option(parser)


def calibration_option(parser: argparse.ArgumentParser) -> None:
    """Add `--calibration`."""
    parser.add_argument(
        "--calibration",
        type=Path,
        required=True,
        metavar="DIR",
        help="representative photos, in folders of any name",
    )


def unlabelled_option(parser: argparse.ArgumentParser) -> None:
    """Add `--unlabelled`."""
    parser.add_argument(
        "--unlabelled",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="more photos to train on, for variety",
    )


def seed_option(parser: argparse.ArgumentParser) -> None:
    """Add `--seed`."""
    parser.add_argument("--seed", type=COUNT_OR_NONE, help=f"random seed (default: {DISTILLATION.seed})")


def run_option(parser: argparse.ArgumentParser) -> None:
    """Add `--run`."""
    parser.add_argument("--run", type=Path, metavar="DIR", help="folder for checkpoints (default: runs/NAME)")


def recipe_options(parser: argparse.ArgumentParser) -> None:
    """Add `--recipes`, and `--out` for the bundle."""
    parser.add_argument(
        "--recipes",
        nargs="+",
        default=DEFAULT_RECIPES,
        metavar="RECIPE",
        help=f"recipe names or .toml files (default: {' '.join(DEFAULT_RECIPES)})",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle's folder")


def evaluation_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add `--evaluation`, `--crop` and `--allow-seen`."""
    parser.add_argument(
        "--evaluation",
        type=Path,
        required=required,
        metavar="DIR",
        help="labelled photos: one folder per class",
    )
    parser.add_argument(
        "--crop",
        type=Crop,
        choices=list(Crop),
        default=Crop.BUNDLE,
        help="evaluate on the bundle's crop, as served, or on whole images: none (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-seen",
        action="store_true",
        help="accept images that the network was trained or calibrated on, and mark the result",
    )


def corrupt_option(parser: argparse.ArgumentParser) -> None:
    """Add `--skip-corrupt`."""
    parser.add_argument(
        "--skip-corrupt",
        action="store_true",
        help="leave out images that can't be read; count them and name the first ones",
    )


def report_options(parser: argparse.ArgumentParser) -> None:
    """Add `--runs` and `--insert`."""
    parser.add_argument(
        "--runs",
        type=COUNT,
        help=f"inferences per variant, rounded up to tens (default: {BENCHMARK_RUNS})",
    )
    parser.add_argument(
        "--insert", type=Path, metavar="FILE", help="also put the table into this Markdown file"
    )
