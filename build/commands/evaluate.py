"""`python -m build evaluate`: measure the accuracy of a bundle's variants."""

import argparse
from typing import TYPE_CHECKING

from build.bundle_writing import check_replaceable
from build.commands.output import show
from build.commands.photo_sets import readable_sets
from build.errors import BuildError
from build.evidence.evaluation import record_evaluation, reference_in_words
from build.evidence.report import renew_report
from build.evidence.tables import evaluation_table
from build.photos.data import labelled_photos
from build.tensorflow_start import starting_tensorflow
from service.bundle.folder import Bundle, load_bundle
from service.bundle.manifest import CLASS_IDS, LABELS

if TYPE_CHECKING:
    from build.network.weights import Network


def run(options: argparse.Namespace, _command: str) -> None:
    """Measure accuracy, and record it in the bundle.

    Raises:
        StartError: the command can't be carried out.
    """
    if options.reference and options.allow_seen:
        raise BuildError("--reference doesn't accept images that were trained on; leave out --allow-seen")
    bundle = load_bundle(options.bundle)
    check_replaceable(options.bundle)
    start = _start_of(bundle, options.start) if options.start else None
    (evaluation,) = readable_sets(
        [labelled_photos(options.evaluation, bundle.classes)], bundle.manifest, options
    )
    bundle = record_evaluation(
        bundle,
        evaluation.images,
        evaluation.name,
        options.crop,
        allow_seen=options.allow_seen,
        as_reference=options.reference,
        start=start,
        baselines=[load_bundle(path) for path in options.baseline],
    )
    show(f"{evaluation_table(renew_report(bundle).manifest)}\n\n{reference_in_words(bundle.manifest)}")


def _start_of(bundle: Bundle, weights: str) -> "Network":
    """Load the weights that a bundle's training started from, which have its classes and its input size."""
    # Imported here because it loads TensorFlow.
    with starting_tensorflow():
        from build.network.weights import load_network, weights_digest

    network = load_network(
        weights,
        labels=bundle.path / LABELS,
        class_ids=bundle.path / CLASS_IDS if bundle.class_ids else None,
        size=bundle.manifest.preprocessing.height,
    )
    training = bundle.manifest.training
    if training is None or weights_digest(network.weights) != training.started_from_sha256:
        raise BuildError(f"--start {weights} is not what the training of {bundle.path} started from")
    return network
