"""What low-bit activations would lose if the few large values were kept, by simulation.

Park, Yoo, Vajda, "Value-aware Quantization for Training and Inference of Neural Networks", ECCV 2018. No
TFLite kernel computes this way. Instead the float network runs, with the inputs of its convolutions and its
classifier rounded: small values to few levels, large ones to 16 bits in the range of all values. Weights stay
in float.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray
from tqdm import tqdm

from build.evidence.tables import lost_and_won, row
from build.network.model import Site, Weights, network, set_weights, with_pixel_input
from build.network.weights import Network
from build.photos.data import PhotoSet
from build.photos.pixels import pixels_of
from build.quantization.ranges import Range, Statistics, observe
from service.bundle.manifest import BASELINE, Comparison, Proportion
from service.images.pixels import Crop
from service.measuring.evaluation import compare, hits
from service.results.words import divergence_in_words, percent

_BATCH = 20
_LARGE_BITS = 16
_CLIPPED = "clipped"


@dataclass(frozen=True)
class Simulated:
    """The accuracy of a network whose small activations have `bits` bits.

    `share`: which share of a tensor's values are large; `is_kept`: whether these are kept, or clipped to the
    largest small one; `against_clipped`: what keeping them changes, None if they are not kept.
    """

    bits: int
    share: float
    is_kept: bool
    top1: Proportion
    against_float: Comparison
    against_clipped: Comparison | None


def simulate_activations(
    start: Network,
    calibration: PhotoSet,
    evaluation: PhotoSet,
    crop: Crop,
    bits: Sequence[int],
    shares: Sequence[float],
) -> list[Simulated]:
    """Classify labelled photos with activations of each number of bits and each share of large values.

    The magnitude from which a value counts as large is chosen for each tensor on `calibration`. With a share
    of 0 none is large, and the range is that of all values.

    Raises:
        BuildError: an activation is infinite or NaN.
    """
    preprocessing = start.preprocessing
    _, _, statistics = observe(start.weights, pixels_of(calibration, preprocessing))
    pixels = pixels_of(evaluation, preprocessing, crop)
    labels = np.array([image.index for image in evaluation.images], np.intp)
    networks = [RoundedNetwork(start.weights, preprocessing.height, statistics, width) for width in bits]
    exact = networks[0].probabilities(pixels)
    simulated = []
    for width, rounded in zip(bits, networks, strict=True):
        for share in tqdm(shares, desc=f"{width} bits", unit="share"):
            clipped: NDArray[np.float32] | None = None
            for is_kept in (False, True) if share else (False,):
                rounded.set(share, is_kept)
                answers = rounded.probabilities(pixels)
                against_clipped = None if clipped is None else compare(_CLIPPED, clipped, answers, labels)
                against_float = compare(BASELINE, exact, answers, labels)
                top1 = hits(answers, labels, 1)
                simulated.append(Simulated(width, share, is_kept, top1, against_float, against_clipped))
                clipped = answers
    return simulated


def activations_table(simulated: Iterable[Simulated]) -> str:
    """Return a Markdown table: each setting compared with the float network, and with clipping."""
    head = (
        "| bits | large % | large values | top-1 % (95 %) | agreement % | KL, nats | lost / won (p)"
        " | lost / won (p) to clipped |\n|--:|--:|---|--:|--:|--:|--:|--:|"
    )
    return "\n".join([head, *map(_row, simulated)])


def _row(of: Simulated) -> str:
    large = "kept" if of.is_kept else "clipped" if of.share else "none"
    cells = [
        f"{of.bits}",
        f"{100 * of.share:g}",
        large,
        percent(of.top1),
        f"{100 * of.against_float.agreement.ratio:.2f}",
        divergence_in_words(of.against_float),
        lost_and_won(of.against_float),
        lost_and_won(of.against_clipped) if of.against_clipped else "",
    ]
    return row(cells)


def small_range(observed: Statistics, share: float) -> Range:
    """Return the range of a tensor's values without the given share of them, the largest by magnitude."""
    values = np.maximum(np.abs(observed.edges[:-1]), np.abs(observed.edges[1:]))
    order = np.argsort(values)
    counted = np.cumsum(observed.counts[order])
    last = np.searchsorted(counted, (1 - share) * counted[-1])
    largest = float(values[order][min(int(last), len(values) - 1)])
    lowest, highest = min(float(observed.edges[0]), 0.0), max(float(observed.edges[-1]), 0.0)
    return Range(max(-largest, lowest), min(largest, highest))


class RoundedNetwork:
    """The float network, whose layers with weights take rounded inputs once `set` has been called.

    `rounded`: the names of these inputs. The photo is not among them: it has 8 bits anyway.
    """

    def __init__(self, weights: Weights, size: int, statistics: Mapping[str, Statistics], bits: int) -> None:
        """`statistics`: of every activation, by name; `bits`: how many small values have."""
        classes = weights["predictions"].bias.size
        self.rounded = _taken_by_weights(size, classes)
        self._bits = bits
        self._observed = [statistics[name] for name in self.rounded]
        self._every = [small_range(observed, 0.0) for observed in self._observed]
        self._small = tf.Variable(tf.zeros((len(self._observed), 2)), trainable=False)
        # None: nothing is rounded.
        self._is_kept: bool | None = None
        inner = network(size, classes, self._place)
        set_weights(inner, weights)
        self._model = with_pixel_input(inner)
        self._compiled: dict[bool | None, Any] = {}

    def set(self, share: float, is_kept: bool) -> None:
        """Round small values, and keep the given share of large ones, or clip them."""
        small = [small_range(observed, share) for observed in self._observed]
        self._small.assign([(range_.low, range_.high) for range_ in small])
        self._is_kept = is_kept

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32[n, classes] for pixels uint8[n, size, size, 3]."""
        if self._is_kept not in self._compiled:
            signature = tf.TensorSpec(self._model.input_shape, tf.float32)
            self._compiled[self._is_kept] = tf.function(self._model).get_concrete_function(signature)
        logits = self._compiled[self._is_kept]
        batches = (tf.constant(pixels[i : i + _BATCH], tf.float32) for i in range(0, len(pixels), _BATCH))
        return np.concatenate([tf.nn.softmax(logits(batch)).numpy() for batch in batches])

    def _place(self, name: str, _site: Site, tensor: Any) -> Any:
        if name not in self.rounded:
            return tensor
        index = self.rounded.index(name)
        every = self._every[index]

        def rounded(values: Any) -> Any:
            # Decided at compile time: tf.cond takes longer to compile than all three cases separately.
            if self._is_kept is None:
                return values
            low, high = tf.unstack(self._small[index])
            few = tf.quantization.fake_quant_with_min_max_vars(values, low, high, self._bits)
            if not self._is_kept:
                return few
            many = tf.quantization.fake_quant_with_min_max_args(values, every.low, every.high, _LARGE_BITS)
            is_large = tf.abs(values) > tf.reduce_max(tf.abs(self._small[index]))
            return tf.where(is_large, many, few)

        return tf_keras.layers.Lambda(rounded, name=f"{name}_rounded")(tensor)


def _taken_by_weights(size: int, classes: int) -> list[str]:
    """Return the names of the activations that convolutions and the classifier take, except the photo."""
    names: dict[str, str] = {}

    def note(name: str, site: Site, tensor: Any) -> Any:
        if site is not Site.INPUT:
            names[tensor.node.layer.name] = name
        return tensor

    model = network(size, classes, note)
    sources = [layer.input.node.layer.name for layer in model.layers if layer.weights]
    return list(dict.fromkeys(names[source] for source in sources if source in names))
