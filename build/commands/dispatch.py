"""Running a command by its name: TensorFlow is loaded for those that make or simulate networks alone."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from build.commands import evaluate, importing, report, sign, subset
from build.commands.output import show
from build.tensorflow_start import starting_tensorflow
from service.bundle.manifest import SIGNATURE

Commands = Mapping[str, Callable[[argparse.Namespace, str], None]]

_BUNDLE_COMMANDS: Commands = {
    "evaluate": evaluate.run,
    "report": report.run,
    "subset": subset.run,
    "import": importing.run,
    "sign": sign.run,
}


def run(options: argparse.Namespace, command: str) -> None:
    """Run the command that `options` name; `command` is the whole command line, for the records.

    Where that leaves a signed bundle with a new manifest, and so without a signature, it says so.

    Raises:
        StartError: it can't be done.
    """
    folder: Path | None = vars(options).get("bundle") or vars(options).get("out")
    if folder is None:  # No bundle changes.
        _run(options, command)
        return
    signature = folder / SIGNATURE
    was_signed = signature.is_file()
    try:
        _run(options, command)
    finally:
        if was_signed and not signature.is_file():
            show(f"{folder} is not signed any more, since its manifest is new: sign it again by `build sign`")


def _run(options: argparse.Namespace, command: str) -> None:
    name = options.command
    commands = _BUNDLE_COMMANDS if name in _BUNDLE_COMMANDS else _network_commands()
    commands[name](options, command)


def _network_commands() -> Commands:
    # Imported here: they load TensorFlow, which the others do without.
    with starting_tensorflow():
        from build.commands import activations, add, quantize, search, sensitivity, train
        from build.commands import all as all_

    return {
        "all": all_.run,
        "train": train.run,
        "quantize": quantize.run,
        "add": add.run,
        "sensitivity": sensitivity.run,
        "activations": activations.run,
        "search": search.run,
    }
