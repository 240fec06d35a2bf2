import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from build.network.model import (
    PIXEL_STEP,
    PIXEL_ZERO,
    LayerWeights,
    Site,
    fold,
    get_weights,
    network,
    set_weights,
    with_pixel_input,
)
from tests.build.conftest import CLASSES, SIZE, make_keras_model


def _pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.float32)


def test_the_folded_network_computes_the_same_as_the_keras_model() -> None:
    # The two pad the stem differently, on the right and at the bottom. With a stem that ignores the
    # padding, they must be equal.
    source = make_keras_model()
    kernel = source.get_layer("stem_conv").get_weights()[0]
    kernel[2] = kernel[:, 2] = 0
    source.get_layer("stem_conv").set_weights([kernel])
    folded = network(SIZE, len(CLASSES))
    set_weights(folded, fold(source))
    pixels = _pixels(0)
    expected = source(pixels).numpy()
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(with_pixel_input(folded)(pixels), expected, rtol=1e-3, atol=1e-4)


def test_the_folded_network_differs_only_at_the_border(keras_model: tf_keras.Model) -> None:
    folded = network(SIZE, len(CLASSES))
    set_weights(folded, fold(keras_model))
    pixels = _pixels(1)
    inner = tf_keras.Model(folded.input, folded.get_layer("stem_activation_silu").output)
    actual = inner((pixels - PIXEL_ZERO) / PIXEL_STEP).numpy()
    source = tf_keras.Model(keras_model.input, keras_model.get_layer("stem_activation").output)
    expected = source(pixels).numpy()
    np.testing.assert_allclose(actual[:, :-1, :-1], expected[:, :-1, :-1], rtol=1e-3, atol=1e-4)
    assert not np.allclose(actual[:, -1], expected[:, -1], rtol=1e-3, atol=1e-4)


def test_no_batch_normalisation_is_left_in_the_folded_network() -> None:
    model = network(SIZE, len(CLASSES))
    assert not any(isinstance(layer, tf_keras.layers.BatchNormalization) for layer in model.layers)
    assert all(weight.trainable for weight in model.weights)


def test_every_activation_is_placed_once_with_its_kind() -> None:
    placed: dict[str, Site] = {}

    def place(name: str, site: Site, tensor: tf.Tensor) -> tf.Tensor:
        assert name not in placed
        placed[name] = site
        return tensor

    model = network(SIZE, len(CLASSES), place)
    computing = [
        layer
        for layer in model.layers
        if not isinstance(layer, tf_keras.layers.InputLayer | tf_keras.layers.Reshape)
    ]
    assert len(placed) == len(computing) + 1  # and the input
    assert placed["input"] is Site.INPUT
    assert placed["stem_activation_in"] is Site.BEFORE_SILU
    assert placed["stem_activation_silu"] is Site.SILU
    assert placed["block4a_se_reduce_silu"] is Site.SILU
    assert placed["block4a_se_expand_sigmoid"] is Site.SIGMOID
    assert placed["block4a_se_excite"] is Site.SQUEEZE_EXCITE
    assert placed["block2b_add"] is Site.LINEAR
    assert placed["predictions"] is Site.LINEAR


def test_get_weights_returns_what_set_weights_was_given(keras_model: tf_keras.Model) -> None:
    model = network(SIZE, len(CLASSES))
    weights = fold(keras_model)
    set_weights(model, weights)
    out = get_weights(model)
    assert out.keys() == weights.keys()
    for name, layer in out.items():
        np.testing.assert_array_equal(layer.kernel, weights[name].kernel)
        np.testing.assert_array_equal(layer.bias, weights[name].bias)


def test_weights_of_another_network_are_refused(keras_model: tf_keras.Model) -> None:
    weights = fold(keras_model)
    weights["another"] = LayerWeights(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="another"):
        set_weights(network(SIZE, len(CLASSES)), weights)
