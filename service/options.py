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

    def command(name: str, what: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        description = f"{what[0].upper()}{what[1:]}."
        return commands.add_parser(name, parents=parents, help=what, description=description)

    settings_only = "The settings, such as EDGEWISE_BUNDLE, take the place of options: see docs/settings.md."
    command("serve", "serve a bundle over HTTP (the default)").epilog = settings_only
    command(
        "check", "verify the settings and the whole bundle, and print what would be served"
    ).epilog = settings_only

    measured = argparse.ArgumentParser(add_help=False)
    measured.add_argument("--bundle", metavar="FOLDER", help="use this bundle instead of EDGEWISE_BUNDLE")
    measured.add_argument(
        "--variants", type=_names, metavar="A,B", help="only these variants (default: all that are there)"
    )
    measured.add_argument("--json", type=Path, metavar="FILE", help="also write the result as JSON")

    evaluate = command("evaluate", "measure accuracy on labelled photos", measured)
    evaluate.add_argument(
        "folder",
        type=Path,
        metavar="PHOTOS",
        help="a folder with one folder per class, named by class id or label, or, if the bundle has no class"
        " ids, by label or index",
    )
    evaluate.add_argument(
        "--against",
        metavar="VARIANT",
        help="compare the others with this one (default: fp32, if it is evaluated)",
    )
    evaluate.add_argument(
        "--crop",
        type=Crop,
        choices=list(Crop),
        default=Crop.BUNDLE,
        help="bundle: crop as the service does; none: use whole images (default: bundle)",
    )
    evaluate.add_argument(
        "--allow-seen",
        action="store_true",
        help="accept images that the network was trained or calibrated on, and mark the result",
    )
    evaluate.add_argument(
        "--skip-corrupt",
        action="store_true",
        help="leave out images that can't be read; count them and name the first ones",
    )

    benchmark = command("benchmark", "measure latency, load time and memory", measured)
    benchmark.add_argument(
        "--runs",
        type=_positive,
        default=DEFAULT_RUNS,
        help=f"inferences per variant (default: {DEFAULT_RUNS})",
    )
    _report_options(benchmark)

    profile = command("profile", "measure the time of each operator of the variants", measured)
    profile.add_argument(
        "--runs",
        type=_positive,
        default=DEFAULT_RUNS,
        help=f"rounds of two calls of each operator, the second of which is timed (default: {DEFAULT_RUNS})",
    )
    profile.add_argument(
        "--top", type=_positive, default=DEFAULT_TOP, help=f"operators per table (default: {DEFAULT_TOP})"
    )
    profile.add_argument("--name", help="the device's name in --json FILE (default: from its firmware)")
    return parser


def _report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="measure more, and write a report on this device as JSON"
    )
    parser.add_argument("--name", help="for the report: the device's name (default: from its firmware)")
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
        help="for --photos, as of evaluate (default: bundle)",
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
