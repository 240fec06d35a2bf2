"""The command line of `python -m build`."""

import argparse
from collections.abc import Callable

from build.commands.options import bundles, networks

_COMMANDS: tuple[tuple[str, str, Callable[[argparse.ArgumentParser], None]], ...] = (
    ("all", "train, quantize, evaluate and report", networks.all_command),
    ("train", "fine-tune with distillation; resumes if interrupted", networks.train_command),
    ("quantize", "make a bundle of variants", networks.quantize_command),
    ("add", "add variants to a bundle, leaving its others unchanged", networks.add_command),
    ("evaluate", "measure accuracy, and record it in the bundle", bundles.evaluate_command),
    (
        "report",
        "measure latency; write the model card, table and picture, or the devices' tables",
        bundles.report_command,
    ),
    ("subset", "make a bundle from some variants of another", bundles.subset_command),
    ("sensitivity", "measure which parts of the network lose in int8", networks.sensitivity_command),
    ("activations", "simulate low-bit activations with large values kept", networks.activations_command),
    ("search", "search for a recipe with a given packed size or inference time", networks.search_command),
    ("import", "make a bundle from third-party .tflite classifiers", bundles.import_command),
    ("sign", "sign a bundle, for nodes that serve only signed ones", bundles.sign_command),
)
"""Each command's name, its line in the help, and the function that adds its options."""


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m build`; what it parses has the command's name as `command`."""
    parser = argparse.ArgumentParser(
        prog="python -m build", description="Turn EfficientNetV2B0 into a bundle of TFLite variants."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, purpose, add_options in _COMMANDS:
        add_options(commands.add_parser(name, help=purpose))
    return parser
