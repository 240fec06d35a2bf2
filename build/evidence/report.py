"""Measure a bundle's variants side by side, and write its model card and picture."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from build.bundle_writing import bundle_files, rewrite_bundle
from build.errors import BuildError
from build.evidence.model_card import PICTURE, model_card
from build.evidence.reference import ClassCount, read_per_class
from build.evidence.tables import variant_table
from service.bundle.folder import Bundle, sha256_of
from service.bundle.manifest import MODEL_CARD, Latency, Manifest
from service.host.output import check_writable, write_whole
from service.measuring.benchmark import benchmark
from service.measuring.progress import rounds_progress

BEGIN, END = "<!-- variants -->", "<!-- /variants -->"


def write_report(bundle: Bundle, runs: int) -> Bundle:
    """Measure latency, and write the bundle with it, its model card and its picture.

    `runs`: the least number of inferences of each variant.

    Raises:
        StartError: a variant can't be loaded, or the bundle can't be written.
    """
    return _write_card(bundle, _with_latencies(bundle, runs))


def renew_report(bundle: Bundle) -> Bundle:
    """Update the model card and the picture, if the bundle has them, to its manifest's numbers.

    Raises:
        BundleError: the bundle can't be written.
    """
    return _write_card(bundle, bundle.manifest) if MODEL_CARD in bundle.manifest.files else bundle


def _with_latencies(bundle: Bundle, runs: int) -> Manifest:
    results = benchmark(
        bundle,
        list(bundle.manifest.variants),
        runs=runs,
        progress=lambda rounds: rounds_progress(rounds, "benchmark"),
    )
    machine = _machine()
    latencies = {
        result.variant: Latency(
            machine=machine,
            runtime=result.runtime,
            delegate=result.delegate,
            runs=result.runs,
            p50_seconds=result.p50_seconds,
            p99_seconds=result.p99_seconds,
        )
        for result in results
    }
    variants = {
        name: variant.model_copy(update={"latency": latencies[name]})
        for name, variant in bundle.manifest.variants.items()
    }
    return bundle.manifest.model_copy(update={"variants": variants})


def card_files(manifest: Manifest, classes: Sequence[ClassCount]) -> dict[str, bytes]:
    """Return the model card and the picture of a manifest; `classes`: the counts per class."""
    # Imported here because a bundle without a picture needs no Matplotlib.
    from build.evidence.picture import pareto_picture

    return {PICTURE: pareto_picture(manifest), MODEL_CARD: model_card(manifest, classes).encode()}


def _write_card(bundle: Bundle, manifest: Manifest) -> Bundle:
    content = card_files(manifest, read_per_class(bundle))
    files = manifest.files | {name: sha256_of(data) for name, data in content.items()}
    manifest = manifest.model_copy(update={"files": files})
    return rewrite_bundle(bundle, manifest, bundle_files(bundle) | content)


def insert_table(manifest: Manifest, file: Path) -> None:
    """Put the table of the variants between the two markers of a Markdown file.

    Raises:
        BuildError: the file can't be read or has no markers.
    """
    insert_between(file, BEGIN, END, variant_table(manifest))


def insert_between(file: Path, begin: str, end: str, text: str) -> None:
    """Put text between two markers of a Markdown file.

    Raises:
        BuildError: the file can't be read or has no such markers.
    """
    before, after = split_at_markers(file, begin, end)
    inserted = f"{begin}\n\n{text}\n\n{end}"
    if before.endswith("\r\n"):
        inserted = inserted.replace("\n", "\r\n")
    write_whole(file, f"{before}{inserted}{after}".encode())


def split_at_markers(file: Path, begin: str = BEGIN, end: str = END) -> tuple[str, str]:
    """Return what a Markdown file has before and after its markers, and check that it can be written.

    Raises:
        BuildError: the file can't be read or has no markers.
        StartError: it can't be written.
    """
    try:
        text = file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{file} can't be read: {error}") from None
    before, begun, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not begun or not ended:
        raise BuildError(f"{file} has no lines {begin} and {end} to put the table between")
    check_writable(file)
    return before, after


def _machine() -> str:
    """Return the processor's name if Linux tells it, its architecture, and the number of cores."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return ", ".join(filter(None, [model, platform.machine(), f"{os.cpu_count()} cores"]))
