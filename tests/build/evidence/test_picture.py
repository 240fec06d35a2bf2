from io import BytesIO

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from PIL import Image

from build.evidence.picture import pareto_front, pareto_picture
from service.bundle.folder import Bundle
from service.bundle.manifest import Manifest, Proportion, Variant, Wire

BLUE, ORANGE, GREEN = (31, 119, 180), (255, 127, 14), (44, 160, 44)


def pixels(manifest: Manifest) -> np.ndarray:
    with Image.open(BytesIO(pareto_picture(manifest))) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_the_picture_shows_a_point_per_variant(measured: Bundle, small: Bundle) -> None:
    with_points, without = pixels(measured.manifest), pixels(small.manifest)
    assert with_points.shape == without.shape == (540, 1200, 3)
    assert len(np.unique(without)) > 10  # Axes and text.
    # Both halves have points in the first two of Matplotlib's colours.
    by_latency, by_size = with_points[:, :600], with_points[:, 600:]
    for half in (by_latency, by_size):
        assert has_colour(half, BLUE)
        assert has_colour(half, ORANGE)
    assert not has_colour(without, BLUE)
    # The baseline has no latency.
    assert has_colour(by_size, GREEN)
    assert not has_colour(by_latency, GREEN)


def test_the_point_of_a_baseline_is_hollow(measured: Bundle) -> None:
    image = pixels(measured.manifest)
    assert has_disc(image, ORANGE)
    assert not has_disc(image, GREEN)


def test_a_packed_variant_is_shown_with_its_packed_size(measured: Bundle) -> None:
    manifest = measured.manifest
    name, variant = list(manifest.variants.items())[1]
    wire = Wire(file="packed.tflite.zst", sha256=64 * "0", bytes=variant.bytes // 2)
    packed = with_variant(manifest, name, variant.model_copy(update={"wire": wire}))
    whole, half = (right_column(pixels(m)[:, 600:], ORANGE) for m in (manifest, packed))
    assert half < whole - 20


def test_a_packed_baseline_is_shown_with_its_packed_size(measured: Bundle) -> None:
    manifest, start = measured.manifest, measured.manifest.baselines["start"]
    packed = start.model_copy(update={"wire_bytes": start.bytes // 4})
    smaller = manifest.model_copy(update={"baselines": {"start": packed}})
    whole, less = (right_column(pixels(m)[:, 600:], GREEN) for m in (manifest, smaller))
    assert less < whole - 20


def test_the_axis_of_sizes_is_logarithmic(measured: Bundle) -> None:
    manifest, start = measured.manifest, measured.manifest.baselines["start"]
    for name, size in (("fp32", start.bytes // 16), ("ptq", 16 * start.bytes)):
        manifest = with_variant(manifest, name, manifest.variants[name].model_copy(update={"bytes": size}))
    # It is in the middle. On a linear axis it would be in the first sixteenth.
    assert 250 < right_column(pixels(manifest)[:, 600:], GREEN) < 400


def test_points_that_are_moved_apart_stay_within_the_picture(measured: Bundle) -> None:
    manifest = measured.manifest
    variant = manifest.variants["ptq"]
    for index in range(8):
        manifest = with_variant(manifest, f"ptq{index}", variant)
    large = manifest.variants["fp32"].model_copy(update={"bytes": 1000 * variant.bytes})
    image = pixels(with_variant(manifest.model_copy(update={"baselines": {}}), "fp32", large))
    colours = [tuple(round(255 * part) for part in to_rgb(f"C{index}")) for index in range(10)]
    # Each point covers a bit of the next, so look for smaller discs.
    assert [colour for colour in colours if not has_disc(image[:, 600:], colour, 5)] == []


def test_a_variant_far_below_the_others_has_no_point(measured: Bundle) -> None:
    name, variant = list(measured.manifest.variants.items())[1]
    (evaluation,) = variant.evaluations
    nothing = Proportion(count=0, ratio=0, lower=0, upper=0.2)
    poor = variant.model_copy(update={"evaluations": (evaluation.model_copy(update={"top1": nothing}),)})
    best = measured.manifest.variants["fp32"].evaluations[0].top1.ratio
    assert best > 0
    assert has_colour(pixels(measured.manifest), ORANGE)
    assert not has_colour(pixels(with_variant(measured.manifest, name, poor)), ORANGE)


def with_variant(manifest: Manifest, name: str, variant: Variant) -> Manifest:
    return manifest.model_copy(update={"variants": manifest.variants | {name: variant}})


def right_column(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int(np.flatnonzero((image == colour).all(axis=2).any(axis=0)).max())


def has_disc(image: np.ndarray, colour: tuple[int, ...], side: int = 7) -> bool:
    """Whether a square of `side` pixels has one colour, as in a disc, but not in a ring or a bar."""
    squares = np.lib.stride_tricks.sliding_window_view((image == colour).all(axis=2), (side, side))
    return bool(squares.all(axis=(2, 3)).any())


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12))
def test_the_pareto_front_has_the_points_that_no_other_beats(points: list[tuple[float, float]]) -> None:
    front = pareto_front(points)
    for i, (cost, gain) in enumerate(points):
        better = [(c, g) for c, g in points if c <= cost and g >= gain and (c < cost or g > gain)]
        assert (i in front) is (better == [])
    on_front = [points[i] for i in front]
    assert on_front == sorted(on_front)
    assert [gain for _, gain in on_front] == sorted(gain for _, gain in on_front)
    assert points.index(max(points, key=lambda point: (point[1], -point[0]))) in front


def test_the_pareto_front_of_typical_variants() -> None:
    fp32, fp16, dynamic, ptq, qat = (28.5, 0.848), (14.2, 0.848), (7.7, 0.831), (8.4, 0.845), (8.4, 0.846)
    assert pareto_front([fp32, fp16, dynamic, ptq, qat]) == [2, 4, 1]


def test_the_same_numbers_make_the_same_bytes(measured: Bundle) -> None:
    assert pareto_picture(measured.manifest) == pareto_picture(measured.manifest)


def has_colour(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((image == colour).all(axis=2).any())
