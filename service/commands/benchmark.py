"""`python -m service benchmark`: latency, load time and memory of a bundle's variants, side by side."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from service.bundle.folder import Bundle, load_bundle
from service.commands.output import write_result
from service.commands.table import table
from service.commands.variants import variants_to_measure
from service.host.output import show
from service.measuring.benchmark import VariantBenchmark, no_counter
from service.measuring.benchmark import benchmark as benchmark_variants
from service.measuring.progress import rounds_progress
from service.sensors.energy import counted_joules, forbidden_counters
from service.settings import Settings


def benchmark(
    settings: Settings, *, variants: Sequence[str] | None, runs: int, json_file: Path | None
) -> None:
    """Measure variants of the settings' bundle, with one thread; print and write the result.

    `variants`: None means all that are here.

    Raises:
        StartError: the bundle can't be used.
    """
    bundle = load_bundle(settings.bundle, settings.bundle_public_key)
    names = variants_to_measure(bundle, variants)
    benchmark_bundle(settings, bundle, variants=names, runs=runs, json_file=json_file)


def benchmark_bundle(
    settings: Settings, bundle: Bundle, *, variants: Sequence[str], runs: int, json_file: Path | None
) -> list[VariantBenchmark]:
    """Measure `variants` with one thread; print, write and return the result.

    Raises:
        StartError: a variant can't be used.
    """
    results = benchmark_variants(
        bundle,
        variants,
        runs=runs,
        delegate=settings.chosen_delegate,
        progress=rounds_progress,
        joules=counted_joules(settings.sysfs_root) or no_counter,
    )
    written = {"bundle": bundle.manifest.name, "variants": [asdict(r) for r in results]}
    write_result(_report(results), json_file, written)
    if forbidden := forbidden_counters(settings.sysfs_root):
        show(f"\nNo joules: this user may not read {', '.join(map(str, forbidden))} (see docs/energy.md)")
    return results


def _report(results: Sequence[VariantBenchmark]) -> str:
    first = results[0]
    head = f"{first.runtime}, delegate {first.delegate}, one thread, {first.runs} inferences each"
    header = ["variant", "MB", "p50 ms", "p99 ms", "mean ms", f"× {first.against}", "load s", "resident MB"]
    rows = [_row(result) for result in results]
    if any(result.joules for result in results):
        header.append("mJ")
        rows = [[*row, _millijoules(result.joules)] for row, result in zip(rows, results, strict=True)]
    taken = [f"{result.variant}: {result.share}" for result in results]
    return "\n".join(
        [
            f"{head}; decoding is not included",
            "",
            table(header, rows),
            "",
            f"Taken by {first.delegate}:",
            *taken,
        ]
    )


def _row(result: VariantBenchmark) -> list[str]:
    resident = result.resident_bytes
    return [
        result.variant,
        f"{result.bytes / 1e6:.1f}",
        f"{result.p50_seconds * 1e3:.2f}",
        f"{result.p99_seconds * 1e3:.2f}",
        f"{result.mean_seconds * 1e3:.2f}",
        f"{result.speedup:.2f}",
        f"{result.load_seconds:.2f}",
        "" if resident is None else f"{resident / 1e6:.0f}",
    ]


def _millijoules(joules: float | None) -> str:
    return "" if joules is None else f"{joules * 1e3:.2f}"
