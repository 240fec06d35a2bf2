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
    _train_command(commands.add_parser("train", help="fine-tune with distillation; interrupted, it resumes"))
    _quantize_command(commands.add_parser("quantize", help="make a bundle of variants"))
    _add_command(commands.add_parser("add", help="add variants to a bundle, and keep its others as they are"))
    _evaluate_command(commands.add_parser("evaluate", help="measure accuracy, and write it into the bundle"))
    _report_command(
        commands.add_parser(
            "report", help="measure latency; write the model card, table and picture, or the devices' table"
        )
    )
    _subset_command(commands.add_parser("subset", help="make a bundle of some of another's variants"))
    _sensitivity_command(
        commands.add_parser("sensitivity", help="measure which parts of the network lose in int8")
    )
    _activations_command(
        commands.add_parser(
            "activations", help="simulate activations of few bits whose large values are kept"
        )
    )
    _search_command(
        commands.add_parser("search", help="search a recipe for a packed file's size, or for a time")
    )
    _import_command(
        commands.add_parser("import", help="wrap somebody else's .tflite classifiers as a bundle")
    )
    _sign_command(commands.add_parser("sign", help="sign a bundle, for nodes that serve no other"))
    return whole


def _all_command(parser: argparse.ArgumentParser) -> None:
    _network_options(parser)
    _licence_option(parser)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="one's own classes: train, val and test with one folder per class, or such folders right away",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="DIR",
        help="the weights' classes: labelled, to train and calibrate on (any folders if --epochs is 0)",
    )
    _training_options(parser)
    parser.add_argument(
        "--epochs",
        type=COUNT_OR_NONE,
        help=f"0: do not train ({OWN_CLASSES.epochs} with --data, else {DISTILLATION.epochs})",
    )
    _recipe_options(parser)
    parser.add_argument(
        "--baselines",
        nargs="*",
        default=DEFAULT_BASELINES,
        metavar="RECIPE",
        help=f"to evaluate beside, but not to keep ({' '.join(DEFAULT_BASELINES)})",
    )
    _evaluation_options(parser, required=False)
    _corrupt_option(parser)
    _report_options(parser)
    _run_option(parser)


def _train_command(parser: argparse.ArgumentParser) -> None:
    _network_options(parser)
    _licence_option(parser)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="labelled: one folder per class"
    )
    _training_options(parser)
    _corrupt_option(parser)
    parser.add_argument("--epochs", type=COUNT, help=f"({DISTILLATION.epochs})")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoints and the result")


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
    parser.add_argument("--recipes", nargs="+", required=True, metavar="RECIPE", help="names, or .toml files")
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
        help="make this evaluation the one that tables and drift go by, in place of the first",
    )
    parser.add_argument(
        "--start", metavar="WEIGHTS", help="a baseline: the weights that training started from"
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        action="append",
        default=[],
        metavar="BUNDLE",
        help="baselines: the variants of another bundle of the same classes",
    )


def _report_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, nargs="?")
    _report_options(parser)
    parser.add_argument(
        "--devices",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="instead of a bundle: reports of devices, to make their table of",
    )


def _subset_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="bundle")
    parser.add_argument(
        "--variants", type=names, required=True, metavar="A,B", help="which, the default first"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new bundle's folder")


def _sensitivity_command(parser: argparse.ArgumentParser) -> None:
    _network_options(parser)
    _calibration_option(parser)
    parser.add_argument(
        "--images", type=SEVERAL, default=SENSITIVITY_IMAGES, help="photos to measure on (%(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the picture and the numbers"
    )
    _corrupt_option(parser)


def _activations_command(parser: argparse.ArgumentParser) -> None:
    _network_options(parser)
    _calibration_option(parser)
    _evaluation_options(parser)
    _corrupt_option(parser)
    parser.add_argument(
        "--bits", type=FEW_BITS, nargs="+", default=ACTIVATION_BITS, help="of small values (%(default)s)"
    )
    parser.add_argument(
        "--large",
        type=LARGE_SHARE,
        nargs="+",
        default=LARGE_SHARES,
        metavar="SHARE",
        help="how many of a tensor's values are large (%(default)s)",
    )


def _search_command(parser: argparse.ArgumentParser) -> None:
    _network_options(parser)
    _calibration_option(parser)
    parser.add_argument(
        "--images", type=SEVERAL, default=SEARCH_IMAGES, help="photos to measure losses on (%(default)s)"
    )
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--megabytes", type=MEGABYTES, help="of the packed file, about: the weights' steps")
    budget.add_argument(
        "--milliseconds",
        type=POSITIVE,
        help="of an inference, by the profile: the blocks in float",
    )
    parser.add_argument(
        "--method",
        type=Method,
        choices=list(Method),
        help="for --megabytes: by the gradient of the loss, or to compare with: greedy, or uniform"
        f" ({Method.DIFFERENTIABLE})",
    )
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FILE",
        help="for --milliseconds: what `service profile --json` wrote of a float32 and an int8 variant",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="NAME.toml", help="the recipe, for a variant of that name"
    )
    _corrupt_option(parser)


def _import_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        type=named_file,
        nargs="+",
        metavar="MODEL.tflite",
        help="or NAME=MODEL.tflite, to name the variant otherwise than the file; the first is the default",
    )
    parser.add_argument("--labels", type=Path, required=True, metavar="FILE", help="one label per line")
    parser.add_argument(
        "--class-ids",
        type=Path,
        metavar="FILE",
        help="one class id per line; a first label `background` has none",
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
        help="the model was trained on (pixel - mean) / std: of all channels, or of red,green,blue (0)",
    )
    parser.add_argument("--std", type=per_channel(POSITIVE), default=1.0, metavar="S[,S,S]", help="(1)")
    parser.add_argument("--resize", type=Resize, choices=list(Resize), default=Resize.SHORTER_SIDE)
    parser.add_argument("--crop-fraction", type=SHARE, help=f"of the shorter side ({CROP_FRACTION})")
    parser.add_argument("--filter", type=Filter, choices=list(Filter), default=Filter.BILINEAR)
    parser.add_argument("--licence", default="unknown", help="of the model")
    parser.add_argument(
        "--seen",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="images that the model was trained or calibrated on, which nothing is evaluated on then",
    )
    parser.add_argument(
        "--delegate",
        type=delegate,
        default=Delegate.XNNPACK,
        help="what runs it here: as EDGEWISE_DELEGATE, for a model that needs one (%(default)s)",
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
        help="a bundle's folder (the default bundle), imagenet (Keras' download), a model or weights that"
        " Keras saved (.keras, .h5), or a folder that train left",
    )
    parser.add_argument("--labels", type=Path, metavar="FILE", help="one label per line (ImageNet's)")
    parser.add_argument("--class-ids", type=Path, metavar="FILE", help="one class id per line (ImageNet's)")
    parser.add_argument(
        "--size", type=SIZE, help=f"the input's side in pixels (the model's, or {INPUT_SIZE})"
    )


def _licence_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--licence",
        help="of the weights (that of the bundle or folder they are from; imagenet: Apache-2.0; or unknown)",
    )


def _training_options(parser: argparse.ArgumentParser) -> None:
    _unlabelled_option(parser)
    parser.add_argument("--batch-size", type=COUNT, help=f"({DISTILLATION.batch_size})")
    parser.add_argument(
        "--learning-rate",
        type=POSITIVE,
        help=f"({DISTILLATION.learning_rate:g}; all --data: {OWN_CLASSES.learning_rate:g})",
    )
    parser.add_argument(
        "--label-weight",
        type=WEIGHT,
        help=f"of the labels in distillation's loss ({LABEL_WEIGHT})",
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
    parser.add_argument("--seed", type=COUNT_OR_NONE, help=f"({DISTILLATION.seed})")


def _run_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, metavar="DIR", help="checkpoints (runs/NAME)")


def _recipe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipes",
        nargs="+",
        default=DEFAULT_RECIPES,
        metavar="RECIPE",
        help=f"names, or .toml files ({' '.join(DEFAULT_RECIPES)})",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle's folder")


def _evaluation_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument(
        "--evaluation", type=Path, required=required, metavar="DIR", help="labelled: one folder per class"
    )
    parser.add_argument(
        "--crop",
        type=Crop,
        choices=list(Crop),
        default=Crop.BUNDLE,
        help="bundle: evaluate on the bundle's crop, as it is served; none: on whole images (%(default)s)",
    )
    parser.add_argument(
        "--allow-seen", action="store_true", help="take images that were trained on too, and mark the result"
    )


def _corrupt_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--skip-corrupt",
        action="store_true",
        help="leave out images that can't be read, and say how many and the first of them",
    )


def _report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs",
        type=COUNT,
        help=f"inferences of each variant, in tens ({BENCHMARK_RUNS})",
    )
    parser.add_argument(
        "--insert", type=Path, metavar="FILE", help="put the table into this Markdown file as well"
    )
