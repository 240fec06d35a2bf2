"""The results of a sensitivity analysis: a table, a picture and the numbers."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import TypeAdapter

from build.quantization.sensitivity import EVERYTHING, Loss, Sensitivity
from service.host.output import write_whole

NUMBERS, PICTURE = "sensitivity.json", "sensitivity.png"


def write_sensitivity(measured: Sensitivity, folder: Path) -> tuple[Path, Path]:
    """Write the picture and the numbers to an existing folder, and return their paths.

    Raises:
        OSError: they can't be written.
    """
    numbers = TypeAdapter(Sensitivity).dump_json(measured, indent=1)
    write_whole(folder / PICTURE, sensitivity_picture(measured))
    write_whole(folder / NUMBERS, numbers + b"\n")
    return folder / PICTURE, folder / NUMBERS


def sensitivity_table(measured: Sensitivity) -> str:
    """Return Markdown: a table of the kinds by descending loss, and one of the blocks in network order."""
    return (
        f"{_table('kind of tensor', {EVERYTHING: measured.everything} | _falling(measured.kinds))}\n\n"
        f"{_table('block', measured.blocks)}\n\n"
        f"One group quantized at a time, a block with its weights and activations. Mean KL to the float"
        f" network, its standard error, and the same top-1, on {measured.measured_on.images} photos of"
        f" {measured.measured_on.name}; the ranges are from {measured.calibrated_on.images} others."
    )


def _table(first: str, losses: Mapping[str, Loss]) -> str:
    head = f"| {first} | KL nats | ± | agreement % |\n|---|--:|--:|--:|"
    rows = (
        f"| {name} | {loss.kl_nats:.5f} | {loss.kl_error:.5f} | {100 * loss.agreement:.1f} |"
        for name, loss in losses.items()
    )
    return "\n".join([head, *rows])


def sensitivity_picture(measured: Sensitivity) -> bytes:
    """Return a PNG with the mean KL of every kind and every block as bars, with their standard errors."""
    figure = Figure(figsize=(10, 5.5), layout="constrained", dpi=100)
    by_kind, by_block = figure.subplots(1, 2)
    _bars(by_kind, {EVERYTHING: measured.everything} | _falling(measured.kinds), "by kind of tensor")
    _bars(by_block, measured.blocks, "by block, weights and activations")
    figure.suptitle(
        f"{measured.network}: what int8 loses, one group quantized at a time"
        f" ({measured.measured_on.images} photos)"
    )
    png = BytesIO()
    # No version or date in the file, so that the same numbers give the same bytes.
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _falling(losses: Mapping[str, Loss]) -> dict[str, Loss]:
    return dict(sorted(losses.items(), key=lambda item: -item[1].kl_nats))


def _bars(axes: Axes, losses: Mapping[str, Loss], title: str) -> None:
    widths = [1e3 * loss.kl_nats for loss in losses.values()]
    errors = [1e3 * loss.kl_error for loss in losses.values()]
    colours = ["tab:gray" if name == EVERYTHING else "tab:blue" for name in losses]
    axes.barh(list(losses), widths, xerr=errors, color=colours, capsize=2)
    axes.invert_yaxis()
    axes.set(title=title, xlabel="mean KL to float, 0.001 nats, ± standard error")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_xlim(left=0)
