"""`python -m build activations`: what low-bit activations would lose, simulated."""

import argparse

from build.commands.network import network_of
from build.commands.output import show
from build.commands.photo_sets import readable_sets
from build.evidence.large_activations import activations_table, simulate_activations
from build.photos.data import labelled_photos, refuse_overlap, sample
from service.bundle.folder import SEEN_DIGITS

# What is large among millions of values needs no more.
_CALIBRATION_PHOTOS = 100


def run(options: argparse.Namespace, _command: str) -> None:
    """Simulate low-bit activations with large values kept, and show a table.

    Raises:
        StartError: it can't be done.
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
        # What is named twice is measured once.
        list(dict.fromkeys(options.bits)),
        list(dict.fromkeys(options.large)),
    )
    seen = sum(photo.sha256[:SEEN_DIGITS] in network.seen_images for photo in evaluation.photos)
    marked = f" {seen} of the photos are among those that the weights come from." if seen else ""
    show(
        f"{activations_table(simulated)}\n\nSimulated in float, on {len(evaluation.photos)} photos of"
        f" {evaluation.name}, crop {options.crop}; weights in float.{marked}"
    )
