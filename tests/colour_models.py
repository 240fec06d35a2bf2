"""A script that makes the .tflite files of a small real classifier, with TensorFlow.

The classifier names an image black, blue, green, red or white by its mean colour. Its weights are
set by hand, so that the right answers are known.

    python tests/colour_models.py FOLDER
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

SIDE = 32
# Each class's colour, from -1 to 1.
COLOURS = np.array([(-1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1), (1, 1, 1)], np.float32)
# The normalization of torchvision, for red, green and blue.
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)


def network(*, softmax: bool) -> tf.keras.Model:
    """float32[1, 32, 32, 3] in -1…1 → 5 logits, or their softmax."""
    pixels = tf.keras.Input((SIDE, SIDE, 3), batch_size=1)
    blurred = tf.keras.layers.DepthwiseConv2D(3, use_bias=False, name="blur")(pixels)
    mean = tf.keras.layers.GlobalAveragePooling2D()(blurred)
    scores = tf.keras.layers.Dense(len(COLOURS), activation="softmax" if softmax else None, name="nearest")(
        mean
    )
    model = tf.keras.Model(pixels, scores)
    model.get_layer("blur").set_weights([np.full((3, 3, 3, 1), 1 / 9, np.float32)])
    model.get_layer("nearest").set_weights([2 * COLOURS.T, -(COLOURS**2).sum(axis=1)])
    return model


def normalized() -> tf.keras.Model:
    """The same network for float32[1, 32, 32, 3] of (pixel - MEAN) / STD."""
    model = network(softmax=False)
    kernel, bias = model.get_layer("nearest").get_weights()
    model.get_layer("nearest").set_weights(
        [kernel * STD[:, np.newaxis] / 127.5, bias + (MEAN - 127.5) / 127.5 @ kernel]
    )
    return model


def casting(dtype: str, middle: float) -> tf.keras.Model:
    """The same network for integers of `middle` ± 127.5, which it casts to float32 itself."""
    pixels = tf.keras.Input((SIDE, SIDE, 3), batch_size=1, dtype=dtype)
    scaled = tf.keras.layers.Rescaling(1 / 127.5, -middle / 127.5)(pixels)
    return tf.keras.Model(pixels, network(softmax=False)(scaled))


def logarithmic() -> tf.keras.Model:
    """The same as `network`, but it adds a logarithm that makes every score NaN for black."""
    pixels = tf.keras.Input((SIDE, SIDE, 3), batch_size=1)
    mean = tf.keras.layers.GlobalAveragePooling2D()(pixels)
    logarithm = tf.keras.layers.Lambda(
        lambda colour: 1e-6 * tf.math.log(tf.reduce_mean(colour, axis=-1, keepdims=True) + 0.99)
    )(mean)
    return tf.keras.Model(pixels, tf.keras.layers.Add()([network(softmax=False)(pixels), logarithm]))


def representative() -> Iterator[list[np.ndarray]]:
    """The colours of the classes, and images of noise."""
    noise = np.random.default_rng(0).uniform(-1, 1, (len(COLOURS), 1, SIDE, SIDE, 3))
    for colour, image in zip(COLOURS, noise.astype(np.float32), strict=True):
        yield [np.broadcast_to(colour, image.shape).astype(np.float32)]
        yield [image]


def normalized_representative() -> Iterator[list[np.ndarray]]:
    """The same images in the scale of `normalized`."""
    for (pixels,) in representative():
        yield [(127.5 + 127.5 * pixels - MEAN) / STD]


def quantized(
    model: tf.keras.Model,
    input_: tf.DType,
    output: tf.DType,
    examples: Callable[[], Iterator[list[np.ndarray]]] = representative,
) -> bytes:
    """Convert the model to int8 throughout."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = examples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type, converter.inference_output_type = input_, output
    return converter.convert()


def main(folder: Path) -> None:
    """Write the .tflite files of all networks."""
    logits, probabilities, by_channel = network(softmax=False), network(softmax=True), normalized()
    models = {
        "fp32": tf.lite.TFLiteConverter.from_keras_model(logits).convert(),
        "ptq": quantized(logits, tf.uint8, tf.int8),
        "int8": quantized(logits, tf.int8, tf.int8),
        "softmax": quantized(probabilities, tf.uint8, tf.uint8),
        "normalized": tf.lite.TFLiteConverter.from_keras_model(by_channel).convert(),
        "normalized-uint8": quantized(by_channel, tf.uint8, tf.int8, normalized_representative),
        "normalized-int8": quantized(by_channel, tf.int8, tf.int8, normalized_representative),
        "cast-uint8": tf.lite.TFLiteConverter.from_keras_model(casting("uint8", 127.5)).convert(),
        "cast-int8": tf.lite.TFLiteConverter.from_keras_model(casting("int8", -0.5)).convert(),
        "logarithmic": tf.lite.TFLiteConverter.from_keras_model(logarithmic()).convert(),
    }
    for name, content in models.items():
        (folder / f"{name}.tflite").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
