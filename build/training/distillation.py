"""How far a network is from the one it learns from."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from build.photos.data import Photo
from service.bundle.manifest import Preprocessing
from service.images.pixels import load_pixels

_BATCH = 10
# Smaller probabilities are replaced by this before the logarithm.
_LEAST_PROBABILITY = 1e-12

Outputs = Callable[[Any], Any]
"""From float32[n, height, width, 3], pixels in 0…255, to float32[n, classes]: logits or probabilities."""


def divergence(target: Any, logits: Any) -> Any:
    """Return KL(target ‖ softmax(logits)) in nats, float32[n]; `target` holds probabilities [n, classes]."""
    known = tf.math.log(tf.maximum(target, _LEAST_PROBABILITY))
    return tf.reduce_sum(target * (known - tf.nn.log_softmax(logits)), axis=-1)


def held_out_losses(
    student: Outputs, target: Outputs, photos: Sequence[Photo], preprocessing: Preprocessing
) -> dict[str, float]:
    """Return the mean KL of the student to `target`'s probabilities, and its mean cross-entropy.

    The photos are preprocessed as in the service. Both losses are in nats. The cross-entropy is that of the
    labelled photos; if there are none, it is left out.
    """

    @tf.function
    def measure(pixels: Any) -> Any:
        views = tf.cast(pixels, tf.float32)
        logits = student(views)
        return divergence(target(views), logits), -tf.nn.log_softmax(logits)

    divergences: list[float] = []
    entropies: list[float] = []
    for start in tqdm(range(0, len(photos), _BATCH), desc="held out", unit="batch", leave=False):
        batch = photos[start : start + _BATCH]
        pixels = np.stack([load_pixels(photo.path.read_bytes(), preprocessing) for photo in batch])
        nats, entropy = measure(tf.constant(pixels))
        divergences += nats.numpy().tolist()
        entropies += [
            float(row[photo.label])
            for row, photo in zip(entropy.numpy(), batch, strict=True)
            if photo.label is not None
        ]
    losses = {"kl_nats": float(np.mean(divergences))}
    return losses | ({"cross_entropy_nats": float(np.mean(entropies))} if entropies else {})
