"""Markdown tables of devices' reports: what each device is, and how well each variant does on it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from build.errors import BuildError
from build.evidence.tables import row
from build.files import read_json
from service.results.report import Accuracy, Device, DeviceReport, Heat, Software, Speed, VariantReport
from service.results.words import percent

BEGIN, END = "<!-- devices -->", "<!-- /devices -->"

_DEVICE_HEADER = (
    "| device | processors | GB | governor | hottest °C | clock % | system | runtime, delegate | date |\n"
    "|---|---|--:|---|--:|--:|---|---|---|"
)
_VARIANT_HEADER = (
    "| device | variant | top-1 % (95 %) | images | as fp32 % | p50 ms | p99 ms | inferences/s, 1 worker"
    " | all workers | load s | resident MB | mJ |\n"
    "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)
_NOTES = """\
As fp32: the same top-1 class as `fp32` on this device.
p50 and p99 are of one inference with one thread; inferences/s are of that many workers together. None of
them includes decoding. Resident: a process with that variant alone and no HTTP. mJ: the energy per inference
with all workers busy, including everything else that the device did meanwhile. Clock: what the CPUs ran at
meanwhile, relative to their rated maximum. Emulated devices have no speeds.\
"""


def read_reports(files: Sequence[Path]) -> dict[str, DeviceReport]:
    """Read reports by their files' names, in the names' order.

    Raises:
        BuildError: a file can't be read, is not a report, or has the name of another.
    """
    reports: dict[str, DeviceReport] = {}
    for file in sorted(files, key=lambda path: path.name):
        if file.name in reports:
            raise BuildError(f"two reports are named {file.name}; give each its own name")
        what = "report of schema version 1 as `service benchmark --report` writes it"
        reports[file.name] = read_json(file, DeviceReport, what)
    return reports


def device_tables(reports: Mapping[str, DeviceReport]) -> str:
    """Return a table of the devices, a table of their variants, and notes on what the numbers mean."""
    devices = [_device_row(file, report) for file, report in reports.items()]
    variants = [
        _variant_row(report.device, name, variant)
        for report in reports.values()
        for name, variant in report.variants.items()
    ]
    notes = "\n".join([_NOTES, *_image_notes(reports)])
    return "\n".join([_DEVICE_HEADER, *devices, "", _VARIANT_HEADER, *variants, "", notes])


def _device_row(file: str, report: DeviceReport) -> str:
    device, software, heat = report.device, report.software, report.heat
    return row(
        [
            f"[{_named(device)}]({file})",
            ", ".join(f"{count} × {kind}" for kind, count in device.cpus.items()),
            f"{device.memory_bytes / 1e9:.1f}" if device.memory_bytes else "",
            device.governor or "",
            _celsius(heat),
            f"{100 * heat.clock.median:.0f}" if heat and heat.clock else "",
            _system(software),
            f"{software.runtime}, {software.delegate}",
            report.date.isoformat(),
        ]
    )


def _variant_row(device: Device, name: str, variant: VariantReport) -> str:
    return row([_named(device), name, *_accuracy(variant.accuracy), *_speeds(variant.speed)])


def _speeds(speed: Speed | None) -> list[str]:
    if speed is None:
        return [""] * 7
    first, last = speed.throughput[0], speed.throughput[-1]
    return [
        f"{speed.p50_seconds * 1e3:.1f}",
        f"{speed.p99_seconds * 1e3:.1f}",
        f"{first.per_second:.1f}",
        f"{last.per_second:.1f} ({last.workers})",
        f"{speed.load_seconds:.2f}",
        f"{speed.resident_bytes / 1e6:.0f}" if speed.resident_bytes else "",
        f"{speed.joules * 1e3:.1f}" if speed.joules else "",
    ]


def _named(device: Device) -> str:
    return f"{device.name} (emulated)" if device.emulated else device.name


def _celsius(heat: Heat | None) -> str:
    if heat is None or not heat.before or not heat.after:
        return ""
    return f"{max(heat.before.values()):.0f} → {max(heat.after.values()):.0f}"


def _system(software: Software) -> str:
    return f"{software.os}, {software.kernel}, Python {software.python}"


def _accuracy(accuracy: Accuracy | None) -> list[str]:
    if accuracy is None:
        return [""] * 3
    same = accuracy.agreement
    return [percent(accuracy.top1), str(accuracy.images), f"{100 * same.ratio:.1f}" if same else ""]


def _image_notes(reports: Mapping[str, DeviceReport]) -> list[str]:
    """Return a note for each set of images that accuracy was measured on."""
    accuracies = [
        variant.accuracy
        for report in reports.values()
        for variant in report.variants.values()
        if variant.accuracy
    ]
    sets = {(a.images, a.sha256, a.crop): None for a in accuracies}
    return [
        f"Accuracy on {images} images (SHA-256 {sha256[:16]}…), crop `{crop}`."
        for images, sha256, crop in sets
    ]
