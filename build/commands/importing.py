"""`python -m build import`: make a bundle from third-party .tflite classifiers."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from build.assembly.assemble import check_destination
from build.assembly.importing import Origin, PreprocessingOptions, import_models, named_models
from build.commands.output import show
from build.photos.data import seen_keys, unlabelled_photos
from service.bundle.manifest import BASELINE


def run(options: argparse.Namespace, command: str) -> None:
    """Make a bundle from third-party files.

    Raises:
        StartError: the command can't be carried out.
    """
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
        show(
            f"no variant is named {BASELINE}, which tables compare the others with:"
            f" pass its file as {BASELINE}=FILE"
        )


def _seen_images(folders: Sequence[Path] | None) -> frozenset[str] | None:
    """Return the keys of the photos in folders; None without folders."""
    if folders is None:
        return None
    return seen_keys(photo for folder in folders for photo in unlabelled_photos(folder).photos)
