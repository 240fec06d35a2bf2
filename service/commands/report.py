"""`python -m service benchmark --report FILE`: reports on this device and the variants' results on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from service.bundle.folder import Bundle, load_bundle
from service.bundle.manifest import BASELINE, Evaluation, comparison_with
from service.commands.benchmark import benchmark_bundle
from service.commands.device import clean, describe_software
from service.commands.output import write_result
from service.commands.table import table
from service.commands.variants import variants_to_measure
from service.errors import StartError
from service.host.output import show
from service.images.pixels import Crop
from service.inference.classifier import Classifier
from service.inference.loading import load_variant
from service.inference.share import GraphShare
from service.measuring.benchmark import VariantBenchmark
from service.measuring.evaluation import Candidate, evaluate
from service.measuring.labelled import LabelledImage, labelled_images, refuse_two_labels
from service.measuring.progress import image_progress, variants_progress
from service.measuring.throughput import measure_throughput, worker_counts
from service.results.report import (
    SCHEMA_VERSION,
    Accuracy,
    Clock,
    Device,
    DeviceReport,
    Heat,
    Speed,
    Throughput,
    VariantReport,
)
from service.sensors.sysfs import read_all
from service.sensors.thermal import temperatures
from service.sensors.watching import watched_sensors
from service.settings import Settings


@dataclass(frozen=True)
class _Measured:
    """The variants' measurements; under emulation only what the delegate took of their graphs."""

    shares: dict[str, GraphShare] = field(default_factory=dict)
    speeds: dict[str, Speed] = field(default_factory=dict)
    clock_shares: list[float] = field(default_factory=list)


def report(
    settings: Settings,
    device: Device,
    file: Path,
    *,
    photos: Path | None,
    crop: Crop,
    variants: Sequence[str] | None,
    runs: int,
    json_file: Path | None,
) -> None:
    """Benchmark variants, and write the results and a description of this device to `file`.

    `variants`: None means all that are here.
    `photos`: a folder with one folder per class, to measure accuracy on. Under emulation, speed is not
    measured.

    Raises:
        StartError: the bundle or the photos can't be used, or the file can't be written.
    """
    if device.emulated and json_file:
        raise StartError(
            f"--json {json_file} would contain speeds, which mean nothing under emulation; leave it out"
        )
    bundle = load_bundle(settings.bundle, settings.bundle_public_key)
    names = variants_to_measure(bundle, variants)
    images = _images(photos, bundle)
    before = _celsius(settings.sysfs_root)
    # First, so that nobody waits for the rest only to have a photo refused.
    accuracies = _accuracies(settings, bundle, names, images, crop)
    results = []
    if not device.emulated:
        results = benchmark_bundle(settings, bundle, variants=names, runs=runs, json_file=json_file)
    measured = _measure(settings, bundle, names, {result.variant: result for result in results})
    after = _celsius(settings.sysfs_root)
    written = DeviceReport(
        schema_version=SCHEMA_VERSION,
        date=datetime.now(UTC).date(),
        device=device,
        software=describe_software(settings.chosen_delegate),
        bundle=bundle.manifest.name,
        heat=None if device.emulated else Heat(before=before, after=after, clock=_clock(measured)),
        variants={name: _variant(bundle, name, measured, accuracies.get(name)) for name in names},
    )
    write_result(_text(written), file, written.model_dump(mode="json"))
    show(f"\n{file}: the report of {device.name}")


def _measure(
    settings: Settings, bundle: Bundle, names: Sequence[str], results: dict[str, VariantBenchmark]
) -> _Measured:
    measured = _Measured()
    for name in variants_progress(names):
        result = results.get(name)
        workers = settings.workers if result else 1
        loaded = load_variant(bundle, name, settings.chosen_delegate, workers=workers)
        measured.shares[name] = loaded.share
        if result:
            measured.speeds[name] = _speed(
                settings.sysfs_root, result, loaded.classifiers, measured.clock_shares
            )
    return measured


def _speed(
    root: Path, result: VariantBenchmark, classifiers: Sequence[Classifier], clock_shares: list[float]
) -> Speed:
    """Measure a variant's speed; the CPUs' clock shares with all workers busy are added to `clock_shares`."""
    throughput = []
    for workers in worker_counts(len(classifiers)):
        with watched_sensors(root, workers) as readings:
            done = measure_throughput(classifiers[:workers])
        throughput.append(Throughput(workers=workers, per_second=done.per_second))
    clock_shares += readings.clock_shares
    return Speed(
        runs=result.runs,
        p50_seconds=result.p50_seconds,
        p99_seconds=result.p99_seconds,
        load_seconds=result.load_seconds,
        resident_bytes=result.resident_bytes,
        throughput=tuple(throughput),
        # A counter that does not advance measures nothing.
        joules=readings.joules / done.inferences if readings.joules else None,
    )


def _images(photos: Path | None, bundle: Bundle) -> list[LabelledImage]:
    if photos is None:
        return []
    images = labelled_images(photos, bundle.classes)
    refuse_two_labels(images)
    return images


def _accuracies(
    settings: Settings, bundle: Bundle, names: Sequence[str], images: Sequence[LabelledImage], crop: Crop
) -> dict[str, Accuracy]:
    if not images:
        return {}
    candidates = {name: Candidate(bundle, name) for name in names}
    # The folder's name is private, so it is not in the report.
    measured = evaluate(
        candidates,
        images,
        crop,
        "photos",
        delegate=settings.chosen_delegate,
        limits=settings.decode_limits,
        progress=image_progress,
    )
    return {name: _accuracy(evaluation) for name, evaluation in measured.evaluations.items()}


def _accuracy(evaluation: Evaluation) -> Accuracy:
    comparison = comparison_with(evaluation, BASELINE)
    return Accuracy(
        sha256=evaluation.dataset.sha256,
        images=evaluation.dataset.images,
        crop=evaluation.crop,
        top1=evaluation.top1,
        top5=evaluation.top5,
        agreement=comparison.agreement if comparison else None,
    )


def _variant(bundle: Bundle, name: str, measured: _Measured, accuracy: Accuracy | None) -> VariantReport:
    declared, share = bundle.variant(name), measured.shares[name]
    return VariantReport(
        sha256=declared.sha256,
        bytes=declared.bytes,
        precision=declared.precision,
        operators=share.operators,
        taken=share.taken,
        speed=measured.speeds.get(name),
        accuracy=accuracy,
    )


def _celsius(root: Path) -> dict[str, float]:
    """Return the temperature of each zone that responds, in degrees Celsius."""
    celsius = read_all((sensor.name, sensor.value) for sensor in temperatures(root))
    return {clean(name): round(value, 1) for name, value in celsius.items()}


def _clock(measured: _Measured) -> Clock | None:
    shares = measured.clock_shares
    return Clock(median=median(shares), lowest=min(shares)) if shares else None


def _text(written: DeviceReport) -> str:
    """Return what the report has in addition to the benchmark's table."""
    if written.device.emulated:
        return f"{written.device.machine} is emulated here: no speeds are measured"
    speeds = {name: variant.speed for name, variant in written.variants.items() if variant.speed}
    first = next(iter(speeds.values()))
    header = ["inferences/s", *(f"{each.workers} at once" for each in first.throughput)]
    rows = [[name, *(f"{each.per_second:.1f}" for each in s.throughput)] for name, s in speeds.items()]
    return f"\n{table(header, rows)}"
