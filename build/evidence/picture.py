"""The picture of a bundle's trade-offs: accuracy against latency, and against bytes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullLocator

from build.evidence.placement import Box, place_labels, spread
from service.bundle.manifest import Evaluation, Manifest, Proportion, reference_evaluation

_DPI = 120
_MARKER_POINTS = 7.0
# In pixels: a marker's radius; the least distance between two, unless a crowd of them would become too wide;
# the most that a crowd can be wide.
_RADIUS = _MARKER_POINTS * _DPI / 72 / 2
_LEAST_GAP = 8.0
_WIDEST_CROWD = 64.0
# An axis is logarithmic if its largest cost is more than this times its smallest.
_FAR_APART = 10.0
# Relative to the best top-1: points below this are listed rather than drawn, so that the others can be told
# apart.
_LEAST_SHOWN = 0.5
_MOST_LISTED = 4
_FRONT = "0.55"


@dataclass(frozen=True)
class _Point:
    """A variant or baseline in one panel; `cost`: milliseconds or megabytes."""

    name: str
    colour: str
    cost: float
    top1: Proportion
    in_bundle: bool
    is_default: bool

    @property
    def percent(self) -> float:
        return 100 * self.top1.ratio


def pareto_picture(manifest: Manifest) -> bytes:
    """Return a PNG of reference top-1 over median latency and over stored bytes, with 95 % intervals.

    The line in each panel is the Pareto front, through the variants that no other beats in both. Baselines,
    which have no latency, are hollow. Points that would overlap are drawn side by side, closer together the
    more there are. Those with less than half of the best top-1 are listed in words.
    """
    figure = Figure(figsize=(10, 4.5), layout="constrained", dpi=_DPI)
    by_latency, by_size = figure.subplots(1, 2, sharey=True)
    (slow, poor_slow), (large, poor_large) = (_split(points) for points in _points(manifest))
    by_latency.set(xlabel="median inference, ms, one thread", ylabel="top-1, %")
    by_size.set(xlabel="in the bundle, MB")
    figure.suptitle(f"{manifest.name}: {manifest.architecture}{_images(manifest)}", fontsize=11)
    _add_legend(figure)
    for axes, points in ((by_latency, slow), (by_size, large)):
        _set_limits(axes, points, large)
    _list_below(by_latency, poor_slow)
    _list_below(by_size, poor_large)
    # Pixel positions are fixed once everything around the points is laid out.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes, points in ((by_latency, slow), (by_size, large)):
        _draw(axes, points)
    png = BytesIO()
    # No version or date in the file, so that the same numbers give the same bytes.
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points (cost, gain) that no other beats, cheapest first.

    One beats another if it is as cheap and as good, and better in one of the two; equal points are all kept.
    """

    def beaten(point: tuple[float, float]) -> bool:
        cost, gain = point
        return any(c <= cost and g >= gain and (c, g) != point for c, g in points)

    return sorted((i for i, point in enumerate(points) if not beaten(point)), key=lambda i: points[i])


def _points(manifest: Manifest) -> tuple[list[_Point], list[_Point]]:
    """Return the points of the two panels: by latency and by size."""
    slow, large = [], []
    for number, (name, variant) in enumerate(manifest.variants.items()):
        evaluation = reference_evaluation(variant.evaluations)
        if evaluation is None:
            continue
        default = name == manifest.default_variant
        point = _Point(name, f"C{number % 10}", variant.stored.bytes / 1e6, evaluation.top1, True, default)
        large.append(point)
        if variant.latency:
            slow.append(replace(point, cost=variant.latency.p50_seconds * 1e3))
    for number, (name, baseline) in enumerate(manifest.baselines.items(), len(manifest.variants)):
        evaluation = reference_evaluation(baseline.evaluations)
        if evaluation is not None:
            colour = f"C{number % 10}"
            stored = baseline.wire_bytes or baseline.bytes
            large.append(_Point(name, colour, stored / 1e6, evaluation.top1, False, False))
    return slow, large


def _split(points: Sequence[_Point]) -> tuple[list[_Point], list[_Point]]:
    """Return the points to draw, and those that are too far below."""
    least = _LEAST_SHOWN * max((point.top1.ratio for point in points), default=0.0)
    shown = [point for point in points if point.top1.ratio >= least]
    return shown, [point for point in points if point.top1.ratio < least]


def _images(manifest: Manifest) -> str:
    default: Evaluation | None = reference_evaluation(manifest.variants[manifest.default_variant].evaluations)
    return f", on {default.dataset.images} images of {default.dataset.name}" if default else ""


def _add_legend(figure: Figure) -> None:
    def marker(label: str, face: str) -> Line2D:
        return Line2D([], [], marker="o", linestyle="", color="0.3", markerfacecolor=face, label=label)

    front = Line2D([], [], color=_FRONT, linestyle="--", label="Pareto front of the variants")
    apart = "variant, with its 95 % interval (set apart where two would cover each other)"
    handles = [marker(apart, "0.3"), marker("not in the bundle", "white"), front]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8)


def _set_limits(axes: Axes, points: Sequence[_Point], everything: Sequence[_Point]) -> None:
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    if not points:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="0.5")
        return
    costs = [point.cost for point in points]
    if max(costs) > _FAR_APART * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(min(costs) / 1.3, 1.6 * max(costs))
    else:
        axes.set_xlim(0, 1.2 * max(costs))
    lower = 100 * min(point.top1.lower for point in everything)
    upper = 100 * max(point.top1.upper for point in everything)
    margin = 0.06 * (upper - lower)
    axes.set_ylim(lower - margin, upper + margin)


def _list_below(axes: Axes, poor: Sequence[_Point]) -> None:
    """List the points that are too far below to be drawn."""
    if poor:
        best = sorted(poor, key=lambda point: -point.percent)
        named = ", ".join(f"{point.name} {point.percent:.1f} %" for point in best[:_MOST_LISTED])
        more = f" and {len(best) - _MOST_LISTED} more" if len(best) > _MOST_LISTED else ""
        text = axes.text(
            0.02, 0.02, f"below: {named}{more}", transform=axes.transAxes, color="0.4", fontsize=8
        )
        text.set_in_layout(False)


def _draw(axes: Axes, points: Sequence[_Point]) -> None:
    apart = _side_by_side(axes, points)
    _make_room(axes, apart)
    variants = [(i, point) for i, point in enumerate(points) if point.in_bundle]
    best = pareto_front([(point.cost, point.top1.ratio) for _, point in variants])
    front = _front_line(axes, [apart[variants[i][0]] for i in best])
    axes.plot(
        [cost for cost, _ in front],
        [gain for _, gain in front],
        color=_FRONT,
        linestyle="--",
        linewidth=1.2,
        zorder=1,
    )
    for point in apart:
        top1 = point.top1
        axes.errorbar(
            point.cost,
            point.percent,
            yerr=[[100 * (top1.ratio - top1.lower)], [100 * (top1.upper - top1.ratio)]],
            fmt="o",
            markersize=_MARKER_POINTS,
            color=point.colour,
            markerfacecolor=point.colour if point.in_bundle else "white",
            markeredgewidth=1.5,
            elinewidth=1.2,
            capsize=3,
            zorder=3,
        )
    _label(axes, apart, front)


def _side_by_side(axes: Axes, points: Sequence[_Point]) -> list[_Point]:
    pixels = [_pixels(axes, point.cost, 0)[0] for point in points]
    apart = spread(pixels, _LEAST_GAP, _WIDEST_CROWD)
    moved = [axes.transData.inverted().transform((x, 0))[0] for x in apart]
    return [replace(point, cost=float(cost)) for point, cost in zip(points, moved, strict=True)]


def _make_room(axes: Axes, points: Sequence[_Point]) -> None:
    """Widen the axis if points that were moved apart would be outside."""
    pixels = [_pixels(axes, point.cost, 0)[0] for point in points]
    to_cost = axes.transData.inverted()
    beyond = [to_cost.transform((x + side * 2 * _RADIUS, 0))[0] for x in pixels for side in (-1, 1)]
    axes.set_xlim(min([axes.get_xlim()[0], *beyond]), max([axes.get_xlim()[1], *beyond]))


def _front_line(axes: Axes, best: Sequence[_Point]) -> list[tuple[float, float]]:
    """Return the corners of the steps through the best points; what is right of and below them is beaten."""
    if not best:
        return []
    corners = [(best[0].cost, axes.get_ylim()[0])]
    for point in best:
        corners += [(point.cost, corners[-1][1]), (point.cost, point.percent)]
    return [*corners, (axes.get_xlim()[1], corners[-1][1])]


def _label(axes: Axes, points: Sequence[_Point], front: Sequence[tuple[float, float]]) -> None:
    texts = [
        axes.text(
            point.cost,
            point.percent,
            point.name,
            verticalalignment="bottom",
            color=point.colour,
            fontweight="bold" if point.is_default else "normal",
            fontstyle="normal" if point.in_bundle else "italic",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=4,
        )
        for point in points
    ]
    extents = [text.get_window_extent() for text in texts]
    lines = [_between(_pixels(axes, *start), _pixels(axes, *end)) for start, end in pairwise(front)]
    area = axes.get_window_extent()
    boxes = place_labels(
        [_pixels(axes, point.cost, point.percent) for point in points],
        [(extent.width, extent.height) for extent in extents],
        [*lines, *(box for point in points for box in _covered(axes, point))],
        Box(area.x0, area.y0, area.x1, area.y1),
    )
    for text, box in zip(texts, boxes, strict=True):
        x, y = axes.transData.inverted().transform((box.left, box.bottom))
        text.set_position((float(x), float(y)))


def _covered(axes: Axes, point: _Point) -> list[Box]:
    """Return what a point and its bar cover, in pixels."""
    x, y = _pixels(axes, point.cost, point.percent)
    low, high = (_pixels(axes, point.cost, 100 * end) for end in (point.top1.lower, point.top1.upper))
    return [Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS), _between(low, high)]


def _between(start: tuple[float, float], end: tuple[float, float]) -> Box:
    """Return what a vertical or horizontal line covers, in pixels, and a little on both sides."""
    (x0, y0), (x1, y1) = start, end
    return Box(min(x0, x1) - 3, min(y0, y1) - 3, max(x0, x1) + 3, max(y0, y1) + 3)


def _pixels(axes: Axes, cost: float, percent: float) -> tuple[float, float]:
    x, y = axes.transData.transform((cost, percent))
    return float(x), float(y)
