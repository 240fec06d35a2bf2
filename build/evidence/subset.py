"""A bundle of some of another's variants, with all their measurements."""

import csv
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TypeVar

from build.assembly.assemble import golden_file
from build.bundle_writing import bundle_files, write_bundle
from build.evidence.evaluation import baseline_of
from build.evidence.reference import read_per_class
from build.evidence.report import card_files
from service.bundle.folder import Bundle, read_file, sha256_of
from service.bundle.manifest import GOLDEN, MODEL_CARD, PER_CLASS, REFERENCE
from service.bundle.reference import read_reference
from service.inference.golden import read_golden_vectors

_Value = TypeVar("_Value")


def write_subset(bundle: Bundle, names: Sequence[str], path: Path) -> Bundle:
    """Write a bundle of the named variants to `path`, in the order that they have in `bundle`.

    The first of `names` becomes the default. The variants that are left out become baselines: their accuracy
    stays, their files don't. The model card and the picture, if there are any, are updated.

    Raises:
        BundleError: `bundle` has no variant of a name, or is damaged, or nothing can be written to `path`.
    """
    manifest = bundle.manifest
    chosen = {name: bundle.variant(name) for name in names}
    kept = {name: variant for name, variant in manifest.variants.items() if name in chosen}
    dropped = {name: variant for name, variant in manifest.variants.items() if name not in chosen}
    update = {
        "name": path.absolute().name,
        "default_variant": names[0],
        "variants": kept,
        "baselines": manifest.baselines
        | {name: baseline_of(variant, variant.evaluations) for name, variant in dropped.items()},
    }
    left = manifest.model_copy(update=update)
    changed = _files_of(bundle, list(kept), dropped.keys())
    if MODEL_CARD in manifest.files:
        changed |= card_files(
            left, [replace(row, right=_only(kept, row.right)) for row in read_per_class(bundle)]
        )
    digests = manifest.files | {file: sha256_of(content) for file, content in changed.items()}
    unwanted = {variant.stored.file for variant in dropped.values()}
    files = {file: content for file, content in bundle_files(bundle).items() if file not in unwanted}
    return write_bundle(path, left.model_copy(update={"files": digests}), files | changed)


def _files_of(bundle: Bundle, kept: Sequence[str], dropped: Set[str]) -> dict[str, bytes]:
    """Return the bundle's files that hold something of every variant, with only that of `kept`."""
    vectors = {name: read_golden_vectors(bundle, name) for name in kept}
    golden = golden_file(vectors[kept[0]].pixels, {name: vector.expected for name, vector in vectors.items()})
    files = {GOLDEN: golden}
    if reference := read_reference(bundle):
        answers = reference.model_copy(update={"variants": _only(kept, reference.variants)})
        files[REFERENCE] = f"{answers.model_dump_json()}\n".encode()
    if PER_CLASS in bundle.manifest.files:
        files[PER_CLASS] = _without_columns(read_file(bundle, PER_CLASS), dropped)
    return files


def _only(names: Iterable[str], values: Mapping[str, _Value]) -> dict[str, _Value]:
    return {name: values[name] for name in names}


def _without_columns(content: bytes, dropped: Set[str]) -> bytes:
    rows = csv.DictReader(StringIO(content.decode(), newline=""))
    text = StringIO()
    names = [name for name in rows.fieldnames or () if name not in dropped]
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
