"""Recipe + weights + representative photos → the bytes of a `.tflite` file."""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from build.errors import BuildError
from build.network.model import Place, Site, Weights, network, set_weights, with_pixel_input
from build.quantization.bias_correction import correct_biases
from build.quantization.grids import grids_of, on_grids, store_levels
from build.quantization.int8 import Int8Network, quantize_after_training
from build.quantization.native import INT4_BITS, to_int4
from build.quantization.ranges import Range, calibrate
from build.quantization.recipe import ActivationType, RangeRule, Recipe, WeightType
from service.bundle.manifest import Precision


def convert(recipe: Recipe, weights: Weights, size: int, representative: NDArray[np.uint8]) -> bytes:
    """Return the `.tflite` file of the variant that a recipe describes.

    `representative` is uint8[n, size, size, 3], empty for a recipe that needs none. The input of a variant
    with float or int16 activations is float32 pixels in 0…255; with int8 activations it is uint8 pixels, or
    with int4 weights the pixels - 128 as int8. All end at the logits.

    Raises:
        BuildError: the recipe is for int4 weights, but leaves no layer at 4 bits.
    """
    if recipe.weights is WeightType.INT4_PER_CHANNEL:
        return _convert_int4(recipe, weights, size, representative)
    if recipe.ranges is RangeRule.LEAST_ERROR:
        return convert_int8(quantize_after_training(recipe, weights, representative), size)
    model = network(size, weights["predictions"].bias.size)
    set_weights(model, weights)
    converter = _converter(with_pixel_input(model))
    match recipe.precision:
        case Precision.FLOAT16:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        case Precision.DYNAMIC:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        case Precision.INT8:
            _calibrate_by_converter(converter, representative)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.uint8
            converter.inference_output_type = tf.int8
        case Precision.INT16X8:
            _calibrate_by_converter(converter, representative)
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            ]
    return bytes(converter.convert())


def convert_int8(int8: Int8Network, size: int) -> bytes:
    """Return the int8 file of a network: activations in its ranges, weights per output channel.

    Every activation with a range gets a fake quantization, from which the converter takes its scale and zero
    point. It quantizes the float weights itself, by the largest value of each channel, except for those on
    the network's grids. Whatever lies between activations without a range is in float.
    """
    model = network(size, int8.weights["predictions"].bias.size, fake_quantize(int8.ranges))
    set_weights(model, on_grids(int8.weights, int8.grids))
    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.int8
    return store_levels(bytes(converter.convert()), int8.weights, int8.grids)


def _calibrate_by_converter(converter: Any, representative: NDArray[np.uint8]) -> None:
    """Have the converter choose the activations' ranges itself, from the smallest to the largest value."""
    pixels = representative.copy()
    # The input's range must be 0…255, whatever the photos hold, so that a pixel is its own quantized value.
    pixels[0, 0, 0], pixels[0, 0, 1] = 0, 255
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([photo[np.newaxis].astype(np.float32)] for photo in pixels)


def _convert_int4(recipe: Recipe, weights: Weights, size: int, representative: NDArray[np.uint8]) -> bytes:
    """Return a file with int4 weights; int8 activations have the ranges that `calibrate` finds for outputs.

    If there are photos, biases compensate for the mean shift of rounding to 4 bits.
    """
    # The recipe's own patterns come before the defaults for other layers.
    others = {name: bits for name, bits in INT4_BITS.items() if name not in recipe.weight_bits}
    grids = grids_of(weights, recipe.weight_bits | others)
    if not grids:
        raise BuildError(f"recipe {recipe.name} leaves no layer at 4 bits; give it another type of weights")
    ranges: dict[str, Range] = {}

    def by_layer(name: str, _site: Site, tensor: Any) -> Any:
        if name in calibrated:
            ranges[tensor.node.layer.name] = calibrated[name]
        return tensor

    integer = recipe.activations is not ActivationType.FLOAT32
    calibrated = calibrate(weights, representative) if integer else {}
    corrected = correct_biases(weights, grids, representative) if len(representative) else weights
    model = network(size, weights["predictions"].bias.size, by_layer)
    set_weights(model, on_grids(corrected, grids))
    if not integer:
        model = with_pixel_input(model)
    return to_int4(bytes(_converter(model).convert()), grids.keys(), ranges, recipe.weight_only)


def fake_quantize(ranges: dict[str, Range]) -> Place:
    """Return a `Place` that rounds and clips each activation that has a range, as int8 would in it."""

    def place(name: str, _site: Site, tensor: Any) -> Any:
        if name not in ranges:
            return tensor
        range_ = ranges[name]
        return tf_keras.layers.Lambda(
            tf.quantization.fake_quant_with_min_max_args,
            arguments={"min": range_.low, "max": range_.high},
            name=f"{name}_range",
        )(tensor)

    return place


def _converter(model: tf_keras.Model) -> Any:
    """Return a converter of the model with a batch size of exactly one."""
    signature = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="pixels")
    function = tf.function(model).get_concrete_function(signature)
    # Given the model itself, the converter would save it layer by layer, which takes most of a minute.
    variables = tf.Module()
    variables.held = model.weights
    return tf.lite.TFLiteConverter.from_concrete_functions([function], variables)
