"""Sensitivity: what int8 costs a network, one group of its tensors quantized at a time.

The groups are the kinds of activation that a recipe treats alike, all weights, and the network's
blocks from the stem to the head. A group is fake-quantized: activations in the ranges that a
recipe chooses, weights as the converter rounds them. Everything else stays in float, and the
answers are compared with those of the float network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray
from tqdm import tqdm

from build.errors import BuildError
from build.network.model import Site, Weights, block_of, network, set_weights, with_pixel_input
from build.network.weights import Network
from build.photos.data import PhotoSet, sample, set_name, without_repeats
from build.photos.pixels import pixels_of
from build.quantization.grids import converter_grids, on_grids
from build.quantization.ranges import Range, calibrate
from service.bundle.manifest import ImageSet

BATCH = 20
# A standard error needs two photos.
LEAST_PHOTOS = 4
EVERYTHING, ALL_WEIGHTS = "everything", "all weights"
KINDS = {
    Site.SILU: "SiLU outputs",
    Site.BEFORE_SILU: "SiLU inputs",
    Site.SQUEEZE_EXCITE: "squeeze-and-excite",
    Site.SIGMOID: "sigmoids",
    Site.LINEAR: "residual sums, linear",
}


@dataclass(frozen=True)
class Loss:
    """What quantizing a group costs, compared with the float network on the same photos.

    `kl_nats`: the mean of KL(float ‖ quantized); `kl_error`: its standard error. `agreement`: the
    share of the photos with the same top-1 class.
    """

    kl_nats: float
    kl_error: float
    agreement: float


@dataclass(frozen=True)
class Sensitivity:
    """The losses by kind of tensor, and by block (weights and activations) in the network's order.

    `everything`: the loss with all tensors quantized at once. `calibrated_on` gave the ranges,
    `measured_on` the losses; they have no photo in common.
    """

    network: str
    calibrated_on: ImageSet
    measured_on: ImageSet
    kinds: dict[str, Loss]
    blocks: dict[str, Loss]
    everything: Loss


@dataclass(frozen=True)
class Group:
    """Tensors that are quantized together: activations by their names, kernels by their layers' names."""

    activations: frozenset[str]
    kernels: frozenset[str]


def photos_apart(folder: Path, representative: int, images: int) -> tuple[PhotoSet, PhotoSet]:
    """Return photos of a folder to calibrate on, and others to measure on, with no content in common.

    At most `images`, and at most half of all, are for measuring; at most `representative` of the
    rest are for calibrating.

    Raises:
        BuildError: there are fewer than four photos with different content.
    """
    drawn = without_repeats([sample(folder, representative + images)])
    if len(drawn) < LEAST_PHOTOS:
        raise BuildError(
            f"{folder} holds {len(drawn)} different photos; give at least {LEAST_PHOTOS}, half of them to"
            " calibrate on and half to measure on"
        )
    measured = min(images, len(drawn) // 2)
    calibrated = drawn[: min(representative, len(drawn) - measured)]
    name = set_name(folder)
    return PhotoSet(name, tuple(calibrated)), PhotoSet(name, tuple(drawn[-measured:]))


def measure_sensitivity(start: Network, calibration: PhotoSet, others: PhotoSet) -> Sensitivity:
    """Quantize each group of a network's tensors alone, and measure on `others` what it loses.

    The ranges are calibrated on `calibration`, as for the `ptq` recipe. Every photo of both sets must be
    decodable.
    """
    preprocessing = start.preprocessing
    ranges = calibrate(start.weights, pixels_of(calibration, preprocessing))
    switched = SwitchedNetwork(start.weights, preprocessing.height, ranges)
    groups = groups_of(switched.sites, list(start.weights))
    pixels = pixels_of(others, preprocessing)
    losses: dict[str, Loss] = {}
    with tqdm(total=(1 + len(groups)) * len(pixels), desc="sensitivity", unit="photo") as progress:
        expected = switched.log_probabilities(pixels, progress)
        for name, group in groups.items():
            switched.quantize(group)
            losses[name] = _loss(expected, switched.log_probabilities(pixels, progress))
    kinds = [*KINDS.values(), ALL_WEIGHTS]
    return Sensitivity(
        network=start.source,
        calibrated_on=calibration.image_set,
        measured_on=others.image_set,
        kinds={name: losses[name] for name in kinds},
        blocks={name: losses[name] for name in losses if name not in (*kinds, EVERYTHING)},
        everything=losses[EVERYTHING],
    )


class SwitchedNetwork:
    """One graph for all groups, compiled once: every fake quantization in it has its own switch."""

    def __init__(self, weights: Weights, size: int, ranges: dict[str, Range]) -> None:
        self.sites: dict[str, Site] = {}
        self._ranges = ranges
        self._switches = tf.Variable(tf.zeros(len(ranges), tf.bool), trainable=False)
        inner = network(size, weights["predictions"].bias.size, self._place)
        set_weights(inner, weights)
        self._layers = {layer.name: layer for layer in inner.layers if layer.weights}
        self._kernels = {name: w.kernel for name, w in weights.items()}
        rounded = on_grids(weights, converter_grids(weights))
        self._quantized = {name: w.kernel for name, w in rounded.items()}
        self._model = with_pixel_input(inner)
        signature = tf.TensorSpec((None, size, size, 3), tf.float32)
        self._logits = tf.function(self._model).get_concrete_function(signature)

    def quantize(self, group: Group) -> None:
        """Quantize a group, and nothing else."""
        self._switches.assign([name in group.activations for name in self.sites])
        for name, layer in self._layers.items():
            kernels = self._quantized if name in group.kernels else self._kernels
            layer.weights[0].assign(kernels[name])

    def log_probabilities(self, pixels: NDArray[np.uint8], progress: tqdm) -> NDArray[np.float64]:
        """Return the log-probabilities, float64[n, classes], for pixels uint8[n, size, size, 3]."""
        answers = []
        for start in range(0, len(pixels), BATCH):
            batch = pixels[start : start + BATCH]
            answers.append(self._logits(tf.constant(batch, tf.float32)).numpy())
            progress.update(len(batch))
        logits: NDArray[np.float64] = np.concatenate(answers).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return logits

    def _place(self, name: str, site: Site, tensor: Any) -> Any:
        index, range_ = len(self.sites), self._ranges[name]
        self.sites[name] = site

        def switched(values: Any) -> Any:
            # Not tf.where, which would compute every fake quantization each time.
            return tf.cond(
                self._switches[index],
                lambda: tf.quantization.fake_quant_with_min_max_args(values, range_.low, range_.high),
                lambda: values,
            )

        return tf_keras.layers.Lambda(switched, name=f"{name}_switched")(tensor)


def groups_of(sites: dict[str, Site], layers: Sequence[str]) -> dict[str, Group]:
    """Return all groups by their names: the kinds, all weights, the blocks, and everything."""
    groups = {
        kind: Group(frozenset(name for name in sites if sites[name] is site), frozenset())
        for site, kind in KINDS.items()
    }
    groups[ALL_WEIGHTS] = Group(frozenset(), frozenset(layers))
    for block in dict.fromkeys(map(block_of, sites)):
        groups[block] = Group(
            frozenset(name for name in sites if block_of(name) == block),
            frozenset(name for name in layers if block_of(name) == block),
        )
    groups[EVERYTHING] = Group(frozenset(sites), frozenset(layers))
    return groups


def divergences(expected: NDArray[np.float64], actual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return KL(expected ‖ actual) in nats, float64[n], for log-probabilities, float64[n, classes]."""
    apart: NDArray[np.float64] = (np.exp(expected) * (expected - actual)).sum(axis=1)
    return apart


def _loss(expected: NDArray[np.float64], actual: NDArray[np.float64]) -> Loss:
    """Return the loss, given log-probabilities [photos, classes]."""
    apart = divergences(expected, actual)
    return Loss(
        kl_nats=max(0.0, float(apart.mean())),
        kl_error=float(apart.std(ddof=1) / np.sqrt(len(apart))),
        agreement=float((expected.argmax(axis=1) == actual.argmax(axis=1)).mean()),
    )
