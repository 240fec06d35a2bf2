"""The build stage's commands, by their names."""

import argparse
from pathlib import Path

from build import bundle_commands
from build.bundle_steps import show
from build.tensorflow_start import starting_tensorflow
from service.bundle.manifest import SIGNATURE


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
    commands = bundle_commands.COMMANDS
    if options.command not in commands:
        # Imported where it is used: it loads TensorFlow, which the others do without.
        with starting_tensorflow():
            from build import network_commands

        commands = network_commands.COMMANDS
    commands[options.command](options, command)
