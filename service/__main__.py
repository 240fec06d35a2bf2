"""`python -m service [serve | check | evaluate | benchmark | profile]`.

Exit status: 0 when all is well, 2 when the command line, the settings, the bundle or the data
can't be used (one line on standard error says why), 130 when interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from service.errors import StartError
from service.host.output import check_writable
from service.host.process import open_standard_descriptors
from service.inference.image import Crop
from service.server.signals import end_on_signal
from service.settings import PREFIX, Settings, load_settings

UNUSABLE = 2
INTERRUPTED = 130
DEFAULT_RUNS = 200
DEFAULT_TOP = 10
MOST = 1_000_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except StartError as error:
        # A name in it, of a folder or in a manifest, may have line ends.
        sys.stderr.write(f"edgewise: {' '.join(str(error).splitlines())}\n")
        return UNUSABLE
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _run(options: argparse.Namespace) -> None:
    given = {PREFIX + "BUNDLE": options.bundle} if getattr(options, "bundle", None) else {}
    settings = load_settings({**os.environ, **given})
    files = [file for name in ("json", "report") if (file := getattr(options, name, None))]
    if len(files) > len(set(files)):
        raise StartError(f"--json and --report can't both be {files[0]}; name another file for one of them")
    for file in files:
        check_writable(file)
    # Imported where they are used: an evaluation needs no web framework, the server no progress bar.
    match options.command:
        case "check":
            from service.commands.check import check

            check(settings)
        case "evaluate":
            from service.commands.evaluate import evaluate

            evaluate(
                settings,
                options.folder,
                variants=options.variants,
                against=options.against,
                crop=options.crop,
                allow_seen=options.allow_seen,
                json_file=options.json,
            )
        case "benchmark":
            _benchmark(settings, options)
        case "profile":
            _profile(settings, options)
        case _:
            end_on_signal()
            open_standard_descriptors()
            from service.server.run import serve

            serve(settings)


def _benchmark(settings: Settings, options: argparse.Namespace) -> None:
    if options.report:
        from service.commands.device import describe_device
        from service.commands.report import report

        report(
            settings,
            describe_device(options.name, settings.sysfs_root),
            options.report,
            photos=options.photos,
            crop=options.crop or Crop.BUNDLE,
            variants=options.variants,
            runs=options.runs,
            json_file=options.json,
        )
        return
    unused = [f"--{name}" for name in ("name", "photos", "crop") if getattr(options, name) is not None]
    if unused:
        raise StartError(f"{' and '.join(unused)} would have no effect without --report FILE; name that too")
    from service.commands.benchmark import benchmark

    benchmark(settings, variants=options.variants, runs=options.runs, json_file=options.json)


def _profile(settings: Settings, options: argparse.Namespace) -> None:
    if options.name is not None and options.json is None:
        raise StartError("--name would have no effect without --json FILE; name that too")
    from service.commands.device import describe_device
    from service.commands.profile import profile

    profile(
        settings,
        describe_device(options.name, settings.sysfs_root) if options.json else None,
        options.json,
        variants=options.variants,
        runs=options.runs,
        top=options.top,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Image classification on edge nodes. Its settings are environment variables named"
        f" {PREFIX}*: see docs/settings.md.",
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("serve", help="serve a bundle over HTTP (the default)")
    commands.add_parser(
        "check", help="verify the settings and the whole bundle, and print what would be served"
    )

    measured = argparse.ArgumentParser(add_help=False)
    measured.add_argument("--bundle", metavar="FOLDER", help="instead of EDGEWISE_BUNDLE")
    measured.add_argument("--variants", type=_names, metavar="A,B", help="these, instead of all")
    measured.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON too")

    evaluate = commands.add_parser("evaluate", parents=[measured], help="measure accuracy on labelled images")
    evaluate.add_argument("folder", type=Path, help="one folder per class, named by class id, label or index")
    evaluate.add_argument(
        "--against", metavar="VARIANT", help="the one to compare with (default fp32, if there is one)"
    )
    evaluate.add_argument(
        "--crop",
        type=Crop,
        choices=list(Crop),
        default=Crop.BUNDLE,
        help="the bundle's crop, or whole images (none)",
    )
    evaluate.add_argument(
        "--allow-seen", action="store_true", help="also images that the network was trained or calibrated on"
    )

    benchmark = commands.add_parser(
        "benchmark", parents=[measured], help="measure latency, load time and memory"
    )
    benchmark.add_argument(
        "--runs",
        type=_positive,
        default=DEFAULT_RUNS,
        help=f"inferences of each variant (default {DEFAULT_RUNS})",
    )
    _report_options(benchmark)

    profile = commands.add_parser("profile", parents=[measured], help="measure each operator of the variants")
    profile.add_argument(
        "--runs",
        type=_positive,
        default=DEFAULT_RUNS,
        help=f"calls of each operator (default {DEFAULT_RUNS})",
    )
    profile.add_argument(
        "--top", type=_positive, default=DEFAULT_TOP, help=f"operators in the tables (default {DEFAULT_TOP})"
    )
    profile.add_argument("--name", help="in the JSON: what to call the device (what its firmware calls it)")
    return parser


def _report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="measure more, and write a report of this device as JSON"
    )
    parser.add_argument("--name", help="in the report: what to call the device (what its firmware calls it)")
    parser.add_argument(
        "--photos",
        type=Path,
        metavar="FOLDER",
        help="in the report: accuracy on these, one folder per class",
    )
    parser.add_argument(
        "--crop",
        type=Crop,
        choices=list(Crop),
        help="of the photos: the bundle's crop, or whole images (none)",
    )


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _positive(text: str) -> int:
    # int() refuses texts of thousands of digits by an error of its own.
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) else 0
    if not 1 <= number <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MOST}")
    return number


if __name__ == "__main__":
    sys.exit(main())
