"""The command line: every command and its options."""

import argparse
from pathlib import Path

from service import VERSION
from service.images.pixels import Crop
from service.settings import PREFIX, separated

DEFAULT_RUNS = 200
DEFAULT_TOP = 10
MOST = 1_000_000_000


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m service`."""
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Image classification on edge nodes. Settings are environment variables named"
        f" {PREFIX}*: see docs/settings.md.",
    )
    parser.add_argument("--version", action="version", version=f"edgewise {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("serve", help="serve a bundle over HTTP (the default)")
    commands.add_parser(
        "check", help="verify the settings and the whole bundle, and print what would be served"
    )

    measured = argparse.ArgumentParser(add_help=False)
    measured.add_argument("--bundle", metavar="FOLDER", help="use this bundle instead of EDGEWISE_BUNDLE")
    measured.add_argument(
        "--variants", type=_names, metavar="A,B", help="only these variants (default: all that are there)"
    )
    measured.add_argument("--json", type=Path, metavar="FILE", help="also write the result as JSON")

    evaluate = commands.add_parser("evaluate", parents=[measured], help="measure accuracy on labelled images")
    evaluate.add_argument(
        "folder",
        type=Path,
        help="one folder per class, named by class id or label, or without class ids by index",
    )
    evaluate.add_argument(
        "--against", metavar="VARIANT", help="compare with this variant (default: fp32, if there is one)"
    )
    evaluate.add_argument(
        "--crop",
        type=Crop,
        choices=list(Crop),
        default=Crop.BUNDLE,
        help="bundle: the bundle's crop; none: whole images",
    )
    evaluate.add_argument(
        "--allow-seen",
        action="store_true",
        help="accept images that the network was trained or calibrated on",
    )
    evaluate.add_argument(
        "--skip-corrupt",
        action="store_true",
        help="skip unreadable images, and report their number and the first of them",
    )

    benchmark = commands.add_parser(
        "benchmark", parents=[measured], help="measure latency, load time and memory"
    )
    benchmark.add_argument(
        "--runs",
        type=_positive,
        default=DEFAULT_RUNS,
        help=f"inferences per variant (default: {DEFAULT_RUNS})",
    )
    _report_options(benchmark)

    profile = commands.add_parser("profile", parents=[measured], help="measure each operator of the variants")
    profile.add_argument(
        "--runs",
        type=_positive,
        default=DEFAULT_RUNS,
        help=f"rounds of two calls of each operator, the second of which is timed (default: {DEFAULT_RUNS})",
    )
    profile.add_argument(
        "--top", type=_positive, default=DEFAULT_TOP, help=f"operators per table (default: {DEFAULT_TOP})"
    )
    profile.add_argument("--name", help="the device's name in the JSON (default: from its firmware)")
    return parser


def _report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="measure more, and write a report on this device as JSON"
    )
    parser.add_argument("--name", help="the device's name in the report (default: from its firmware)")
    parser.add_argument(
        "--photos",
        type=Path,
        metavar="FOLDER",
        help="for the report: measure accuracy on these photos, one folder per class",
    )
    parser.add_argument(
        "--crop",
        type=Crop,
        choices=list(Crop),
        help="of --photos: the bundle's crop, or whole images (none)",
    )


def _names(text: str) -> tuple[str, ...]:
    names = separated(text)
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} names no variant")
    return names


def _positive(text: str) -> int:
    # int() raises a different error for texts of thousands of digits.
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) else 0
    if not 1 <= number <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MOST}")
    return number
