"""The picture of a bundle's trade-offs: accuracy against latency, and against bytes."""

from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from service.manifest import Evaluation, Manifest, reference_evaluation

PICTURE = "variants.png"


def pareto_picture(manifest: Manifest) -> bytes:
    """A PNG with reference top-1 over median latency and over file size; bars are 95 % intervals."""
    figure = Figure(figsize=(10, 4.5), layout="constrained", dpi=120)
    by_latency, by_size = figure.subplots(1, 2, sharey=True)
    for name, variant in manifest.variants.items():
        evaluation = reference_evaluation(variant.evaluations)
        if evaluation is None:
            continue
        if variant.latency:
            _point(by_latency, name, variant.latency.p50_seconds * 1e3, evaluation)
        _point(by_size, name, variant.bytes / 1e6, evaluation)
    by_latency.set(xlabel="median inference, ms, one thread", ylabel="top-1, %")
    by_size.set(xlabel="file, MB")
    for axes in (by_latency, by_size):
        axes.grid(alpha=0.3)
        axes.margins(x=0.25)
        axes.set_xlim(left=0)
    figure.suptitle(f"{manifest.name}: {manifest.architecture}")
    png = BytesIO()
    # No version or date in the file, so that the same numbers give the same bytes.
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _point(axes: Axes, name: str, x: float, evaluation: Evaluation) -> None:
    top1 = evaluation.top1
    error = [[100 * (top1.ratio - top1.lower)], [100 * (top1.upper - top1.ratio)]]
    axes.errorbar(x, 100 * top1.ratio, yerr=error, fmt="o", capsize=4)
    axes.annotate(name, (x, 100 * top1.ratio), xytext=(8, 6), textcoords="offset points")
