"""`python -m service [--version | serve | check | evaluate | benchmark | profile]`.

Exit status: 0 on success, 2 if the command line, the settings, the bundle or the data
can't be used (one line on standard error says why), 130 if interrupted.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from service.errors import StartError
from service.host.ending import INTERRUPTED, refuse
from service.server.signals import end_on_signal

if TYPE_CHECKING:
    import argparse

    from service.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] == "serve":
        end_on_signal()
    try:
        _run(arguments)
    except StartError as error:
        return refuse(str(error))
    except ModuleNotFoundError as error:
        return refuse(f"{error.name} is missing; run it with `make serve` or .venv-serve/bin/python")
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _run(arguments: Sequence[str]) -> None:
    # Imported late, like everything that takes time or needs packages, so that an interruption or a missing
    # package is reported without a traceback.
    from service.host.output import check_writable, escape_unencodable, forgive_standard_error
    from service.host.process import keep_little_memory, open_standard_descriptors

    open_standard_descriptors()
    escape_unencodable()
    forgive_standard_error()
    from service.options import command_parser
    from service.settings import PREFIX, load_settings

    options = command_parser().parse_args(arguments)
    given = {PREFIX + "BUNDLE": options.bundle} if getattr(options, "bundle", None) else {}
    settings = load_settings({**os.environ, **given})
    files = [file for name in ("json", "report") if (file := getattr(options, name, None))]
    # A pipe can take both. Not with `resolve`, which raises an error at links that lead in a circle.
    overwritten = [os.path.realpath(file) for file in files if file.is_file() or not file.exists()]
    if len(overwritten) > len(set(overwritten)):
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
                skip_corrupt=options.skip_corrupt,
                json_file=options.json,
            )
        case "benchmark":
            _benchmark(settings, options)
        case "profile":
            _profile(settings, options)
        case _:
            keep_little_memory()
            from service.server.run import serve

            serve(settings)


def _benchmark(settings: "Settings", options: "argparse.Namespace") -> None:
    if options.report:
        from service.commands.device import describe_device
        from service.commands.report import report
        from service.images.pixels import Crop

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
        raise StartError(f"{' and '.join(unused)} would have no effect without --report FILE; add that")
    from service.commands.benchmark import benchmark

    benchmark(settings, variants=options.variants, runs=options.runs, json_file=options.json)


def _profile(settings: "Settings", options: "argparse.Namespace") -> None:
    if options.name is not None and options.json is None:
        raise StartError("--name would have no effect without --json FILE; add that")
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


if __name__ == "__main__":
    sys.exit(main())
