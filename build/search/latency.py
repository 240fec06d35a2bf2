"""Which blocks to compute in float, for the milliseconds that they take more.

In int8 a network is the fastest, on processors that have kernels for it. Where it may take longer, the time
buys accuracy back: a block that is computed in float rounds nothing.
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
from build.photos.data import PhotoSet
from build.photos.pixels import pixels_of
from build.quantization.layer_names import layer_of
from build.quantization.ranges import Range, calibrate
from build.quantization.recipe import Recipe
from build.quantization.sensitivity import Group, SwitchedNetwork, divergences
from service.bundle.folder import SEEN_DIGITS
from service.bundle.manifest import Precision
from service.results.profile import Profile, VariantProfile

# A block must lower the loss by so many standard errors.
_SURE = 2.0
# A block that takes no longer in float counts as one that takes this much longer.
_LEAST_SECONDS = 1e-6


@dataclass(frozen=True)
class BlockTimes:
    """What a device takes: `int8`, seconds of the whole network, and `extra`, of each block more in float."""

    int8: float
    extra: dict[str, float]

    def predicted(self, in_float: Collection[str]) -> float:
        """Seconds of the network with those blocks in float."""
        return self.int8 + sum(self.extra[block] for block in in_float)


def read_times(file: Path, network: Network) -> BlockTimes:
    """The times of a network's blocks in the first float32 and the first int8 variant of a profile.

    An operator's time there is one of its own; here all are scaled by as much as they are off together. They
    hang on the layers' shapes, so that any bundle of the network, trained further or not, does for a profile.

    Raises:
        BuildError: the file can't be read, is no profile, or is one of other variants or another network.
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
        raise BuildError(f"{file} is of another network, or of another input; profile a bundle of this one")
    extra = {block: float_times[block] - int8_times[block] for block in blocks}
    return BlockTimes(in_int8.p50_seconds, extra)


def search_blocks(
    network: Network, recipe: Recipe, calibration: PhotoSet, others: PhotoSet, times: BlockTimes, most: float
) -> Recipe:
    """The recipe with the blocks in float that lower the loss most in at most `most` seconds.

    `recipe` is of int8, its ranges are from `calibration`; losses are measured on `others`.

    Raises:
        BuildError: int8 alone takes as long or longer, or no block lowers the loss in that time, or there is
            one photo alone to measure it on.
    """
    if len(others.photos) < 2:
        raise BuildError("there is 1 photo to measure losses on, of which none is sure; give more")
    if most <= times.int8:
        raise BuildError(f"int8 alone takes {1e3 * times.int8:.2f} ms there; allow more")
    pixels, other_pixels = (pixels_of(photos, network.preprocessing) for photos in (calibration, others))
    ranges, chosen = calibrate(network.weights, pixels), list[str]()
    with tqdm(desc="search", unit="photo") as progress:
        loss = BlockLosses(network.weights, ranges, other_pixels, progress)
        while block := next_block(loss, chosen, times, most):
            chosen.append(block)
    if not chosen:
        raise BuildError(
            f"no block in float that fits in {1e3 * most:.2f} ms lowers the loss for sure on"
            f" {len(others.photos)} photos; allow more time, or measure on more photos (--images)"
        )
    in_order = tuple(block for block in times.extra if block in chosen)
    seen = frozenset(photo.sha256[:SEEN_DIGITS] for photo in (*calibration.photos, *others.photos))
    return recipe.model_copy(update={"float_blocks": in_order, "searched_on": seen})


class BlockLosses:
    """The divergence of the int8 network from the float one, photo by photo, by the blocks left in float."""

    def __init__(
        self, weights: Weights, ranges: dict[str, Range], pixels: NDArray[np.uint8], progress: tqdm
    ) -> None:
        self._layers, self._activations, self._pixels = list(weights), list(ranges), pixels
        self._switched = SwitchedNetwork(weights, pixels.shape[1], ranges)
        self._progress = progress
        self._expected = self._switched.log_probabilities(pixels, progress)
        self._known: dict[frozenset[str], NDArray[np.float64]] = {}

    def of(self, in_float: Collection[str]) -> NDArray[np.float64]:
        """KL(float ‖ int8 but for those blocks), float64[photos], in nats."""
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
    """The block that lowers the loss most for each second that it takes more, all that is chosen in place."""
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
    raise BuildError(f"{file} has no {precision} variant; profile one of float32 and one of int8")


def _times(variant: VariantProfile) -> dict[str, float]:
    """The seconds of each block, of which all together are the whole graph's."""
    times: dict[str, float] = {}
    for operator in variant.operators:
        if operator.p50_seconds is not None:
            block = block_of(layer_of(operator.layer.encode()))
            times[block] = times.get(block, 0.0) + operator.p50_seconds / variant.sum_ratio
    return times
