"""The options of the build stage's commands."""

import argparse
from pathlib import Path

from build.network.architecture import CROP_FRACTION, INPUT_SIZE
from build.option_values import (
    COUNT,
    COUNT_OR_NONE,
    FEW_BITS,
    FINITE,
    LARGE_SHARE,
    MEGABYTES,
    POSITIVE,
    SEVERAL,
    SHARE,
    SIZE,
    WEIGHT,
    delegate,
    named_file,
    names,
    per_channel,
)
from build.search.method import Method
from build.training.schedule import DISTILLATION, LABEL_WEIGHT, OWN_CLASSES
from service.bundle.manifest import Filter, Resize
from service.images.pixels import Crop
from service.inference.delegates import Delegate

DEFAULT_RECIPES = ("fp32", "fp16", "dynamic", "ptq", "qat")
DEFAULT_BASELINES = ("naive",)
DEFAULT_WEIGHTS = Path(__file__).parent.parent / "models" / "imagenet-1k"
BENCHMARK_RUNS = 200
SENSITIVITY_IMAGES = 100
SEARCH_IMAGES = 256
ACTIVATION_BITS = (4, 3)
LARGE_SHARES = (0.0, 0.01, 0.02, 0.03)


def command_parser() -> argparse.ArgumentParser:
    """The parser of `python -m build`; `command` is the command's name."""
    whole = argparse.ArgumentParser(
        prog="python -m build", description="Turn EfficientNetV2B0 into a bundle of TFLite variants."
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="command")
    _all_command(commands.add_parser("all", help="train, quantize, evaluate and report"))
    _train_command(commands.add_parser("train", help="fine-tune with distillation; resumes if interrupted"))
    _quantize_command(commands.add_parser("quantize", help="make a bundle of variants"))
    _add_command(commands.add_parser("add", help="add variants to a bundle, leaving its others unchanged"))
    _evaluate_command(commands.add_parser("evaluate", help="measure accuracy, and record it in the bundle"))
    _report_command(
        commands.add_parser(
            "report", help="measure latency; write the model card, table and picture, or the devices' tables"
        )
    )
    _subset_command(commands.add_parser("subset", help="make a bundle from some variants of another"))
    _sensitivity_command(
        commands.add_parser("sensitivity", help="measure which parts of the network lose in int8")
    )
    _activations_command(
        commands.add_parser("activations", help="simulate low-bit activations with large values kept")
    )
    _search_command(
        commands.add_parser("search", help="search for a recipe with a given packed size or inference time")
    )
    _import_command(commands.add_parser("import", help="make a bundle from third-party .tflite classifiers"))
    _sign_command(commands.add_parser("sign", help="sign a bundle, for nodes that serve only signed ones"))
    return whole


def _all_command(parser: argparse.ArgumentParser) -> None:
    _network_options(parser)
    _licence_option(parser)
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
    _training_options(parser)
    parser.add_argument(
        "--epochs",
        type=COUNT_OR_NONE,
        help=f"0: do not train (default: {OWN_CLASSES.epochs} with --data, else {DISTILLATION.epochs})",
    )
    _recipe_options(parser)
    parser.add_argument(
        "--baselines",
        nargs="*",
        default=DEFAULT_BASELINES,
        metavar="RECIPE",
        help=f"evaluate these too, but don't keep them (default: {' '.join(DEFAULT_BASELINES)})",
    )
    _evaluation_options(parser, required=False)
    _corrupt_option(parser)
    _report_options(parser)
    _run_option(parser)


def _train_command(parser: argparse.ArgumentParser) -> None:
    _network_options(parser)
    _licence_option(parser)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="labelled photos: one folder per class"
    )
    _training_options(parser)
    _corrupt_option(parser)
    parser.add_argument("--epochs", type=COUNT, help=f"(default: {DISTILLATION.epochs})")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for checkpoints and the result"
    )


def _quantize_command(parser: argparse.ArgumentParser) -> None:
    _network_options(parser)
    _licence_option(parser)
    _calibration_option(parser)
    _unlabelled_option(parser)
    _recipe_options(parser)
    _seed_option(parser)
    _corrupt_option(parser)
    _run_option(parser)


def _add_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="bundle")
    _calibration_option(parser)
    _unlabelled_option(parser)
    parser.add_argument(
        "--recipes", nargs="+", required=True, metavar="RECIPE", help="recipe names or .toml files"
    )
    _seed_option(parser)
    _corrupt_option(parser)
    _run_option(parser)


def _evaluate_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path)
    _evaluation_options(parser)
    _corrupt_option(parser)
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


def _report_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, nargs="?")
    _report_options(parser)
    parser.add_argument(
        "--devices",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="instead of a bundle: device reports to make tables from",
    )


def _subset_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="bundle")
    parser.add_argument(
        "--variants", type=names, required=True, metavar="A,B", help="which variants, the default first"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new bundle's folder")


def _sensitivity_command(parser: argparse.ArgumentParser) -> None:
    _network_options(parser)
    _calibration_option(parser)
    parser.add_argument(
        "--images",
        type=SEVERAL,
        default=SENSITIVITY_IMAGES,
        help="photos to measure on (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the picture and the numbers"
    )
    _corrupt_option(parser)


def _activations_command(parser: argparse.ArgumentParser) -> None:
    _network_options(parser)
    _calibration_option(parser)
    _evaluation_options(parser)
    _corrupt_option(parser)
    parser.add_argument(
        "--bits",
        type=FEW_BITS,
        nargs="+",
        default=ACTIVATION_BITS,
        help="bits of small values (default: %(default)s)",
    )
    parser.add_argument(
        "--large",
        type=LARGE_SHARE,
        nargs="+",
        default=LARGE_SHARES,
        metavar="SHARE",
        help="share of a tensor's values that are large (default: %(default)s)",
    )


def _search_command(parser: argparse.ArgumentParser) -> None:
    _network_options(parser)
    _calibration_option(parser)
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
    _corrupt_option(parser)


def _import_command(parser: argparse.ArgumentParser) -> None:
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
        help="one class id per line; omit it for a first label `background`",
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
    parser.add_argument("--resize", type=Resize, choices=list(Resize), default=Resize.SHORTER_SIDE)
    parser.add_argument("--crop-fraction", type=SHARE, help=f"of the shorter side (default: {CROP_FRACTION})")
    parser.add_argument("--filter", type=Filter, choices=list(Filter), default=Filter.BILINEAR)
    parser.add_argument("--licence", default="unknown", help="of the model")
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


def _sign_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--key",
        type=Path,
        required=True,
        metavar="KEY.pem",
        help="an Ed25519 private key: openssl genpkey -algorithm ed25519 -out KEY.pem",
    )


def _network_options(parser: argparse.ArgumentParser) -> None:
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


def _licence_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--licence",
        help="of the weights (default: their bundle's or folder's; imagenet: Apache-2.0; else unknown)",
    )


def _training_options(parser: argparse.ArgumentParser) -> None:
    _unlabelled_option(parser)
    parser.add_argument("--batch-size", type=COUNT, help=f"(default: {DISTILLATION.batch_size})")
    parser.add_argument(
        "--learning-rate",
        type=POSITIVE,
        help=f"(default: {DISTILLATION.learning_rate:g}; all --data: {OWN_CLASSES.learning_rate:g})",
    )
    parser.add_argument(
        "--label-weight",
        type=WEIGHT,
        help=f"weight of the labels in the distillation loss (default: {LABEL_WEIGHT})",
    )
    _seed_option(parser)


def _calibration_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--calibration",
        type=Path,
        required=True,
        metavar="DIR",
        help="representative photos, in folders of any name",
    )


def _unlabelled_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--unlabelled",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="more photos to train on, for variety",
    )


def _seed_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=COUNT_OR_NONE, help=f"(default: {DISTILLATION.seed})")


def _run_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, metavar="DIR", help="folder for checkpoints (default: runs/NAME)")


def _recipe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipes",
        nargs="+",
        default=DEFAULT_RECIPES,
        metavar="RECIPE",
        help=f"recipe names or .toml files (default: {' '.join(DEFAULT_RECIPES)})",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle's folder")


def _evaluation_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
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
        "--allow-seen", action="store_true", help="accept images that were trained on, and mark the result"
    )


def _corrupt_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--skip-corrupt",
        action="store_true",
        help="skip unreadable images, and report their number and the first of them",
    )


def _report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs",
        type=COUNT,
        help=f"inferences per variant, in tens (default: {BENCHMARK_RUNS})",
    )
    parser.add_argument(
        "--insert", type=Path, metavar="FILE", help="also put the table into this Markdown file"
    )
