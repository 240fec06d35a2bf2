"""The commands on files that are made already, and on bundles: without `--start` they load no TensorFlow."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from build.assembly.assemble import check_destination, refuse_other_classes
from build.assembly.importing import Origin, PreprocessingOptions, import_models, named_models
from build.bundle_steps import readable_sets, refuse_unused, report, show
from build.errors import BuildError
from build.evidence.devices import BEGIN, END, device_tables, read_reports
from build.evidence.evaluation import record_evaluation, reference_in_words
from build.evidence.report import insert_between, renew_report, split_at_markers
from build.evidence.subset import write_subset
from build.evidence.tables import evaluation_table
from build.photos.data import labelled_photos, unlabelled_photos
from build.signing import sign_bundle
from build.tensorflow_start import starting_tensorflow
from service.bundle.folder import SEEN_DIGITS, Bundle, check_replaceable, load_bundle, verify
from service.bundle.manifest import BASELINE, CLASS_IDS, LABELS

if TYPE_CHECKING:
    from build.network.weights import Network


def _evaluate(options: argparse.Namespace, _command: str) -> None:
    if options.reference and options.allow_seen:
        raise BuildError("--reference takes no images that were trained on; leave out --allow-seen")
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
    """The weights that a bundle's training started from; they must have its classes and its size."""
    # Imported where it is used: it loads TensorFlow.
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


def _report(options: argparse.Namespace, _command: str) -> None:
    if (options.bundle is None) == (options.devices is None):
        raise BuildError("report takes a bundle, or --devices with reports of devices")
    if options.bundle:
        bundle = load_bundle(options.bundle)
        check_replaceable(options.bundle)
        if options.insert:
            split_at_markers(options.insert)
        report(bundle, options)
        return
    refuse_unused(options, ["runs"], "with --devices, whose reports were measured already")
    tables = device_tables(read_reports(options.devices))
    if options.insert:
        insert_between(options.insert, BEGIN, END, tables)
    show(tables)


def _subset(options: argparse.Namespace, _command: str) -> None:
    check_destination(options.out)
    source, out = options.source.resolve(), options.out.resolve()
    if source in (out, *out.parents):
        raise BuildError(
            f"{options.out} is in {options.source}, which would lose its files; name another folder"
        )
    bundle = load_bundle(options.source)
    verify(bundle)
    refuse_other_classes(options.out, bundle.classes)
    smaller = write_subset(bundle, options.variants, options.out)
    size = sum(file.stat().st_size for file in smaller.path.iterdir())
    show(f"{options.out}: {size / 1e6:.1f} MB in all; serve it with EDGEWISE_BUNDLE={options.out} make serve")


def _import(options: argparse.Namespace, command: str) -> None:
    check_destination(options.out)
    models = named_models(options.models)
    bundle = import_models(
        models,
        options.out,
        labels=options.labels,
        class_ids=options.class_ids,
        output=options.output,
        preprocessing=PreprocessingOptions(
            resize=options.resize,
            crop_fraction=options.crop_fraction,
            filter=options.filter,
            mean=options.mean,
            std=options.std,
        ),
        origin=Origin(options.licence, command, _seen_images(options.seen)),
        delegate=options.delegate,
    )
    show(f"{bundle.path}: serve it with EDGEWISE_BUNDLE={options.out} make serve")
    if len(models) > 1 and BASELINE not in models:
        show(f"none is named {BASELINE}, which tables compare the others with: name it by {BASELINE}=FILE")


def _seen_images(folders: Sequence[Path] | None) -> frozenset[str] | None:
    """The first digits of what lies in folders; None without folders."""
    if folders is None:
        return None
    return frozenset(
        photo.sha256[:SEEN_DIGITS] for folder in folders for photo in unlabelled_photos(folder).photos
    )


def _sign(options: argparse.Namespace, _command: str) -> None:
    signature = sign_bundle(options.bundle, options.key)
    show(f"{signature}: serve the bundle with the public key as EDGEWISE_BUNDLE_PUBLIC_KEY")


COMMANDS: dict[str, Callable[[argparse.Namespace, str], None]] = {
    "evaluate": _evaluate,
    "report": _report,
    "subset": _subset,
    "import": _import,
    "sign": _sign,
}
"""What each does with its options and the whole command line, which an import leaves in what it makes."""
