"""`python -m build train`: fine-tune a network with distillation."""

import argparse

from build.commands.network import network_of
from build.commands.output import show
from build.commands.photo_sets import readable_sets, training_sets
from build.commands.training_plan import label_weight_of, refuse_bundle, schedule_of
from build.training.fine_tuning import train_network
from build.training.schedule import DISTILLATION


def run(options: argparse.Namespace, command: str) -> None:
    """Fine-tune a network, or resume a training that was interrupted.

    Raises:
        StartError: the command can't be carried out.
    """
    refuse_bundle(options.out)
    start = network_of(options)
    sets = readable_sets(training_sets(start, options.data, options.unlabelled), start, options)
    schedule = schedule_of(options, DISTILLATION)
    train_network(start, sets, schedule, label_weight_of(options), options.out, command)
    show(f"{options.out}: trained; use it as --weights {options.out}")
