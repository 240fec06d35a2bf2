"""Makes the .tflite files of a small real classifier, with TensorFlow: a script of its own.

It tells black, blue, green, red and white apart, by the mean of the picture's colours: weights
are set by hand, so that what it must answer is known.

    python tests/colour_models.py FOLDER
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

SIDE = 32
# Each class's colour, from -1 to 1.
COLOURS = np.array([(-1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1), (1, 1, 1)], np.float32)


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


def representative() -> Iterator[list[np.ndarray]]:
    """The classes' colours, plain and with noise."""
    noise = np.random.default_rng(0).uniform(-1, 1, (len(COLOURS), 1, SIDE, SIDE, 3))
    for colour, other in zip(COLOURS, noise.astype(np.float32), strict=True):
        yield [np.broadcast_to(colour, other.shape).astype(np.float32)]
        yield [other]


def quantized(model: tf.keras.Model, input_: tf.DType, output: tf.DType) -> bytes:
    """The model in int8 throughout."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type, converter.inference_output_type = input_, output
    return converter.convert()


def main(folder: Path) -> None:
    """Write fp32, ptq, int8 and softmax."""
    logits, probabilities = network(softmax=False), network(softmax=True)
    models = {
        "fp32": tf.lite.TFLiteConverter.from_keras_model(logits).convert(),
        "ptq": quantized(logits, tf.uint8, tf.int8),
        "int8": quantized(logits, tf.int8, tf.int8),
        "softmax": quantized(probabilities, tf.uint8, tf.uint8),
    }
    for name, content in models.items():
        (folder / f"{name}.tflite").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
