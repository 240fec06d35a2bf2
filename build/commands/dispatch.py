"""Running a command by its name; TensorFlow is loaded only for the commands that need it."""

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
    """Run the command that `options` name; `command` is the whole command line, to be recorded.

    If this removes a bundle's signature, because its manifest is new, say so.

    Raises:
        StartError: the command can't be carried out.
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
            show(f"{folder} is no longer signed, since its manifest is new: sign it again with `build sign`")


def _run(options: argparse.Namespace, command: str) -> None:
    name = options.command
    commands = _BUNDLE_COMMANDS if name in _BUNDLE_COMMANDS else _network_commands()
    commands[name](options, command)


def _network_commands() -> Commands:
    # Imported here because they load TensorFlow, which the other commands don't need.
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
