"""The options of the commands on bundles and third-party files."""

import argparse
from pathlib import Path

from build.commands.options.shared import corrupt_option, evaluation_options, report_options
from build.commands.options.values import FINITE, POSITIVE, SHARE, delegate, named_file, names, per_channel
from build.network.architecture import CROP_FRACTION
from service.bundle.manifest import Filter, Resize
from service.inference.delegates import Delegate


def evaluate_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `evaluate`."""
    parser.add_argument("bundle", type=Path)
    evaluation_options(parser)
    corrupt_option(parser)
    parser.add_argument(
        "--reference",
        action="store_true",
        help="use this evaluation for the tables and for drift, instead of the first one",
    )
    parser.add_argument(
        "--start", metavar="WEIGHTS", help="measure as a baseline: the weights that training started from"
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        action="append",
        default=[],
        metavar="BUNDLE",
        help="measure as baselines: the variants of another bundle with the same classes",
    )


def report_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `report`."""
    parser.add_argument("bundle", type=Path, nargs="?")
    report_options(parser)
    parser.add_argument(
        "--devices",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="instead of a bundle: device reports to make tables from",
    )


def subset_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `subset`."""
    parser.add_argument("source", type=Path, metavar="bundle")
    parser.add_argument(
        "--variants", type=names, required=True, metavar="A,B", help="which variants, the default first"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new bundle's folder")


def import_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `import`."""
    parser.add_argument(
        "models",
        type=named_file,
        nargs="+",
        metavar="MODEL.tflite",
        help="or NAME=MODEL.tflite, to name the variant differently from the file; the first is the default",
    )
    parser.add_argument("--labels", type=Path, required=True, metavar="FILE", help="one label per line")
    parser.add_argument(
        "--class-ids",
        type=Path,
        metavar="FILE",
        help="one class id per line; may omit that of a first label `background`",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle's folder")
    parser.add_argument(
        "--output", choices=["logits", "probabilities"], required=True, help="what the model's output is"
    )
    parser.add_argument(
        "--mean",
        type=per_channel(FINITE),
        default=0.0,
        metavar="M[,M,M]",
        help="the model was trained on (pixel - mean) / std: for all channels, or r,g,b (default: 0)",
    )
    parser.add_argument(
        "--std", type=per_channel(POSITIVE), default=1.0, metavar="S[,S,S]", help="as --mean (default: 1)"
    )
    parser.add_argument(
        "--resize",
        type=Resize,
        choices=list(Resize),
        default=Resize.SHORTER_SIDE,
        help="how photos are fitted to the model's size (default: %(default)s)",
    )
    parser.add_argument(
        "--crop-fraction",
        type=SHARE,
        help=f"share of the shorter side to keep (default: {CROP_FRACTION}; with --resize squash: 1)",
    )
    parser.add_argument(
        "--filter",
        type=Filter,
        choices=list(Filter),
        default=Filter.BILINEAR,
        help="how pixels are resampled (default: %(default)s)",
    )
    parser.add_argument("--licence", default="unknown", help="licence of the model (default: %(default)s)")
    parser.add_argument(
        "--seen",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="images that the model was trained or calibrated on; evaluations refuse them",
    )
    parser.add_argument(
        "--delegate",
        type=delegate,
        default=Delegate.XNNPACK,
        help="as EDGEWISE_DELEGATE, for a model that needs one to run here (default: %(default)s)",
    )


def sign_command(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sign`."""
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--key",
        type=Path,
        required=True,
        metavar="KEY.pem",
        help="an Ed25519 private key: openssl genpkey -algorithm ed25519 -out ~/KEY.pem",
    )
