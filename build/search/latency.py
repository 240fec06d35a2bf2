"""Which blocks to compute in float, given the additional milliseconds that they take.

A network is fastest in int8, on processors that have kernels for it. If it can take longer, that time buys
accuracy back: a block that is computed in float rounds nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from build.errors import BuildError
from build.files import read_json
from build.network.model import Weights, block_of, within
from build.network.weights import Network
from build.photos.data import PhotoSet, seen_keys
from build.photos.pixels import pixels_of
from build.quantization.layer_names import layer_of
from build.quantization.ranges import Range, calibrate
from build.quantization.recipe import Recipe
from build.quantization.sensitivity import Group, SwitchedNetwork, divergences
from service.bundle.manifest import Precision
from service.results.profile import Profile, VariantProfile

# A block must lower the loss by this many standard errors.
_SURE = 2.0
# A block that takes no longer in float counts as one that takes this much longer.
_LEAST_SECONDS = 1e-6


@dataclass(frozen=True)
class BlockTimes:
    """Seconds on a device: `int8` of the whole network; `extra`: how much more each block takes in float."""

    int8: float
    extra: dict[str, float]

    def predicted(self, in_float: Collection[str]) -> float:
        """Return the predicted seconds of the network with those blocks in float."""
        return self.int8 + sum(self.extra[block] for block in in_float)


def read_times(file: Path, network: Network) -> BlockTimes:
    """Return the times of a network's blocks, from the first float32 and first int8 variant of a profile.

    The profile times each operator separately; here the times are scaled to add up to that of the whole
    graph. They depend only on the layers' shapes, so a profile of any bundle of the network will do, trained
    further or not.

    Raises:
        BuildError: the file can't be read, is not a profile, or has other variants or another network.
    """
    profile = read_json(file, Profile, "profile as `service profile --json` writes it")
    in_float, in_int8 = (
        _first(file, profile, precision) for precision in (Precision.FLOAT32, Precision.INT8)
    )
    float_times, int8_times = (_times(variant) for variant in (in_float, in_int8))
    size = network.preprocessing.height
    blocks = [block for block in dict.fromkeys(map(block_of, network.weights)) if block.startswith("block")]
    fits = all(variant.operators[0].inputs[:1] == ((1, size, size, 3),) for variant in (in_float, in_int8))
    if not fits or not set(blocks) <= float_times.keys() & int8_times.keys():
        raise BuildError(f"{file} is for another network or input size; profile a bundle of this network")
    extra = {block: float_times[block] - int8_times[block] for block in blocks}
    return BlockTimes(in_int8.p50_seconds, extra)


def search_blocks(
    network: Network, recipe: Recipe, calibration: PhotoSet, others: PhotoSet, times: BlockTimes, most: float
) -> Recipe:
    """Return the recipe with the float blocks that lower the loss most within `most` seconds.

    `recipe` must be int8. Ranges are calibrated on `calibration`, losses measured on `others`.

    Raises:
        BuildError: int8 alone takes as long or longer, no block lowers the loss in that time, or there is
            only one photo to measure it on.
    """
    if len(others.photos) < 2:
        raise BuildError("there is only 1 photo to measure losses on, which is not enough; give more")
    if most <= times.int8:
        raise BuildError(f"int8 alone already takes {1e3 * times.int8:.2f} ms; allow more")
    pixels, other_pixels = (pixels_of(photos, network.preprocessing) for photos in (calibration, others))
    ranges, chosen = calibrate(network.weights, pixels), list[str]()
    with tqdm(desc="search", unit="photo") as progress:
        loss = BlockLosses(network.weights, ranges, other_pixels, progress)
        while block := next_block(loss, chosen, times, most):
            chosen.append(block)
    if not chosen:
        raise BuildError(
            f"no float block that fits in {1e3 * most:.2f} ms lowers the loss significantly on"
            f" {len(others.photos)} photos; allow more time, or measure on more photos (--images)"
        )
    in_order = tuple(block for block in times.extra if block in chosen)
    seen = seen_keys((*calibration.photos, *others.photos))
    return recipe.model_copy(update={"float_blocks": in_order, "searched_on": seen})


class BlockLosses:
    """The divergence of the int8 network from the float one, photo by photo, for sets of float blocks."""

    def __init__(
        self, weights: Weights, ranges: dict[str, Range], pixels: NDArray[np.uint8], progress: tqdm
    ) -> None:
        self._layers, self._activations, self._pixels = list(weights), list(ranges), pixels
        self._switched = SwitchedNetwork(weights, pixels.shape[1], ranges)
        self._progress = progress
        self._expected = self._switched.log_probabilities(pixels, progress)
        self._known: dict[frozenset[str], NDArray[np.float64]] = {}

    def of(self, in_float: Collection[str]) -> NDArray[np.float64]:
        """Return KL(float ‖ int8 except those blocks), float64[photos], in nats."""
        blocks = frozenset(in_float)
        if blocks not in self._known:
            self._known[blocks] = self._measure(blocks)
        return self._known[blocks]

    def _measure(self, in_float: frozenset[str]) -> NDArray[np.float64]:
        activations = frozenset(self._activations) - within(in_float, self._activations)
        kernels = frozenset(name for name in self._layers if block_of(name) not in in_float)
        self._switched.quantize(Group(activations, kernels))
        return divergences(self._expected, self._switched.log_probabilities(self._pixels, self._progress))


def next_block(loss: BlockLosses, chosen: Sequence[str], times: BlockTimes, most: float) -> str | None:
    """Return the block that lowers the loss most per additional second, on top of those already chosen.

    It is None if no further block fits, or none lowers the loss significantly.
    """
    now, ratios = loss.of(chosen), dict[str, float]()
    for block, extra in times.extra.items():
        if block in chosen or times.predicted([*chosen, block]) > most:
            continue
        fall = now - loss.of([*chosen, block])
        if fall.mean() > _SURE * fall.std(ddof=1) / np.sqrt(len(fall)):
            ratios[block] = float(fall.mean()) / max(extra, _LEAST_SECONDS)
    return max(ratios, key=lambda block: ratios[block], default=None)


def _first(file: Path, profile: Profile, precision: Precision) -> VariantProfile:
    found = (variant for variant in profile.variants.values() if variant.precision is precision)
    if variant := next(found, None):
        return variant
    raise BuildError(f"{file} has no {precision} variant; profile a float32 one and an int8 one")


def _times(variant: VariantProfile) -> dict[str, float]:
    """Return the seconds of each block, scaled to add up to those of the whole graph."""
    times: dict[str, float] = {}
    for operator in variant.operators:
        if operator.p50_seconds is not None:
            block = block_of(layer_of(operator.layer.encode()))
            times[block] = times.get(block, 0.0) + operator.p50_seconds / variant.sum_ratio
    return times
