"""What coarse weights cost a network, and how much more a larger step in each layer would cost."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from build.network.model import Weights, network, normalise, set_weights
from build.training.distillation import divergence

_BATCH = 16


class NoisyNetwork:
    """The float network with noise added to its weights instead of rounding them.

    Uniform noise as wide as a step causes the same error as rounding, but it has a gradient by the step:
    Défossez, Adi, Synnaeve, "Differentiable Model Compression via Pseudo Quantization Noise", TMLR 2022. Like
    rounding with corrected biases, it shifts no channel's mean.
    """

    def __init__(self, weights: Weights, pixels: NDArray[np.uint8]) -> None:
        """`pixels`: uint8[n, size, size, 3], the photos to measure on."""
        self._layers = list(weights)
        self._model = network(pixels.shape[1], weights["predictions"].bias.size)
        set_weights(self._model, weights)
        self._kernels = [self._model.get_layer(name).weights[0] for name in self._layers]
        self._exact = [tf.Variable(kernel, trainable=False) for kernel in self._kernels]
        self._batches = [normalise(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH)]
        self._targets = [tf.nn.softmax(self._model(batch)) for batch in self._batches]
        self._measure_loss = tf.function(self._noisy_loss)
        self._measure_slopes = tf.function(self._noisy_slopes)

    def loss(self, steps: Mapping[str, float], seed: int) -> float:
        """Return the mean KL to the float network, in nats; layers that `steps` omits have no noise."""
        return float(self._mean(self._measure_loss, steps, seed))

    def slopes(self, steps: Mapping[str, float], seed: int) -> NDArray[np.float64]:
        """Return by how many nats the mean KL grows when the logarithm of a layer's step grows by one.

        float64[layers], from the expected squares of the gradients at the noisy weights (the diagonal of the
        Fisher matrix). They vary far less from photo to photo than the derivative of the loss itself.
        """
        return self._mean(self._measure_slopes, steps, seed)

    def _mean(self, function: Any, steps: Mapping[str, float], seed: int) -> NDArray[np.float64]:
        """Return the mean over all photos of what `function` returns as the mean over a batch."""
        widths = tf.constant([steps.get(name, 0.0) for name in self._layers], tf.float32)
        means = [
            function(batch, target, widths, tf.constant((seed, index))).numpy()
            for index, (batch, target) in enumerate(zip(self._batches, self._targets, strict=True))
        ]
        # The last batch may have fewer photos than the others.
        photos = [len(batch) for batch in self._batches]
        mean: NDArray[np.float64] = np.average(np.array(means, np.float64), axis=0, weights=photos)
        return mean

    def _noisy_loss(self, batch: Any, target: Any, widths: Any, seed: Any) -> Any:
        self._add_noise(widths, seed)
        return tf.reduce_mean(divergence(target, self._model(batch)))

    def _noisy_slopes(self, batch: Any, target: Any, widths: Any, seed: Any) -> Any:
        self._add_noise(widths, seed)
        classes = tf.random.stateless_categorical(tf.math.log(target), 1, seed)[:, 0]
        # With random signs, the square of the gradients' sum is on average the sum of their squares.
        signs = tf.sign(tf.random.stateless_normal((_BATCH,), seed))[: tf.shape(batch)[0]]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._kernels)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(classes, self._model(batch))
            total = tf.reduce_sum(signs * losses)
        squares = [tf.reduce_sum(tf.square(g)) for g in tape.gradient(total, self._kernels)]
        photos = tf.cast(tf.shape(batch)[0], tf.float32)
        # The loss is half the second derivative times the noise's variance, and grows as the step's square.
        return tf.square(widths) / 12 * tf.stack(squares) / photos

    def _add_noise(self, widths: Any, seed: Any) -> None:
        for index, (kernel, exact) in enumerate(zip(self._kernels, self._exact, strict=True)):
            own_seed = seed + tf.constant((index << 16, 0))
            unit = tf.random.stateless_uniform(kernel.shape, own_seed, -0.5, 0.5)
            kernel.assign(exact + widths[index] * unit)
