"""Steps on bundles and photos that several commands take, from shared options; without TensorFlow."""

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from build.errors import BuildError
from build.evidence.model_card import PICTURE
from build.evidence.report import insert_table, write_report
from build.evidence.tables import variant_table
from build.files import in_utf8
from build.options import BENCHMARK_RUNS
from build.photos.data import PhotoSet
from build.photos.readable import readable
from service.bundle.folder import Bundle
from service.bundle.manifest import MODEL_CARD, Manifest
from service.host import output
from service.measuring.labelled import refuse_two_labels

if TYPE_CHECKING:
    from build.network.weights import Network


def refuse_unused(options: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Refuse those of the options that were given; they would have no effect, and `why` says in what case.

    Raises:
        BuildError: one was given; names all of them.
    """
    unused = [name for name in names if vars(options)[name.replace("-", "_")] not in (None, [])]
    if unused:
        told = " and ".join(f"--{name}" for name in unused)
        raise BuildError(f"{told} would have no effect {why}; leave that out")


def readable_sets(
    sets: Sequence[PhotoSet], of: "Network | Manifest", options: argparse.Namespace
) -> list[PhotoSet]:
    """The sets, checked: what can't be read is refused or left out, and no image has two labels."""
    kept = readable(sets, of.preprocessing, skip_corrupt=options.skip_corrupt)
    for photo_set in kept:
        refuse_two_labels(photo_set.images)
    return kept


def report(bundle: Bundle, options: argparse.Namespace) -> None:
    """Measure latency, write the model card, and show the table."""
    bundle = write_report(bundle, options.runs or BENCHMARK_RUNS)
    if options.insert:
        insert_table(bundle.manifest, options.insert)
    show(variant_table(bundle.manifest))
    show(f"\n{bundle.path / MODEL_CARD} and {bundle.path / PICTURE}")


def show(text: str) -> None:
    """Write `text` and a line's end to standard output."""
    output.show(in_utf8(text))
