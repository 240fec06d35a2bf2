"""`python -m build activations`: simulate what low-bit activations would lose."""

import argparse

from build.commands.network import network_of
from build.commands.output import show
from build.commands.photo_sets import readable_sets
from build.evidence.large_activations import activations_table, simulate_activations
from build.photos.data import labelled_photos, refuse_overlap, sample

# Enough to tell which of millions of values are large.
_CALIBRATION_PHOTOS = 100


def run(options: argparse.Namespace, _command: str) -> None:
    """Simulate low-bit activations with large values kept, and print a table.

    Raises:
        StartError: the command can't be carried out.
    """
    network = network_of(options)
    calibration = sample(options.calibration, _CALIBRATION_PHOTOS)
    evaluation = labelled_photos(options.evaluation, network.classes)
    calibration, evaluation = readable_sets([calibration, evaluation], network, options)
    if not options.allow_seen:
        refuse_overlap([calibration], evaluation, network.seen_images)
    simulated = simulate_activations(
        network,
        calibration,
        evaluation,
        options.crop,
        # Without duplicates.
        list(dict.fromkeys(options.bits)),
        list(dict.fromkeys(options.large)),
    )
    seen = sum(photo.seen_key in network.seen_images for photo in evaluation.photos)
    marked = f" {seen} of the photos were also used to make the weights." if seen else ""
    show(
        f"{activations_table(simulated)}\n\nSimulated in float, on {len(evaluation.photos)} photos of"
        f" {evaluation.name}, crop {options.crop}; weights in float.{marked}"
    )
