"""Whole models saved by Keras 2 or 3, loaded by Keras itself."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import tf_keras
from tf_keras.src.saving.serialization_lib import SafeModeScope

from build.network.architecture import ARCHITECTURE
from build.network.keras_config import GROUPS, WEIGHTED
from build.network.keras_layers import SAVE_WHOLE, Arrays, UnfitError, filled, unfit
from build.network.model import IMAGENET, PIXEL_ZERO, Normalisation

# Shares of the largest output: float32 is summed in another order, and mixed precision is coarse.
_FLOAT32_TOLERANCE, _MIXED_TOLERANCE = 1e-3, 0.05
# The stem pads with grey instead of the mean. With a mean of 127.5 that moves probabilities about as little
# as with ImageNet's (docs/build.md); with one of 0 (black), ten times as far, which changes top classes.
_NEAR_GREY = 16


@dataclass(frozen=True)
class KerasModel:
    """Keras' own model with a user's weights, its stem's normalisation, and the side of its input."""

    model: tf_keras.Model
    normalisation: Normalisation
    size: int


def load_model(path: Path, major: int, size: int | None) -> KerasModel:
    """Load a model saved by Keras with the given major version.

    `size` is the side of its input, required if the model itself takes any.

    Raises:
        UnfitError: the build stage can't take the model, or the model takes another size.
    """
    with warnings.catch_warnings(action="ignore"):  # They are about Keras' own code, and can't be acted on.
        return _loaded(path, tf_keras if major == 2 else keras, size)


def _loaded(path: Path, library: ModuleType, size: int | None) -> KerasModel:
    try:
        # Keras 2 applies `safe_mode` to `.keras` files only; the scope applies to all.
        with SafeModeScope(True):
            model = library.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises nothing more specific.
        said = " ".join(str(error).split())[:200]
        raise UnfitError(
            f"can't be loaded by Keras {library.__version__} ({said}): {SAVE_WHOLE} in this version or an"
            " older one, or convert it to TFLite and use `build import`"
        ) from None
    side = _side(model, size)
    layers = list(_layers(model))
    weights: dict[str, Arrays] = {
        layer.name: layer.get_weights() for layer in layers if type(layer).__name__ in WEIGHTED
    }
    own, normalisation = filled(weights, side), normalisation_of(layers)
    _check_same(model, own, normalisation, side)
    return KerasModel(own, normalisation, side)


def _layers(model: Any) -> Iterator[Any]:
    """Yield all layers in order, with nested models replaced by their layers."""
    for layer in model.layers:
        if type(layer).__name__ in GROUPS:
            yield from _layers(layer)
        else:
            yield layer


def _side(model: Any, asked: int | None) -> Any:
    shape = getattr(model, "input_shape", None)  # A Sequential that never saw an image has none.
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
        raise unfit(f"takes {shape}, not one square colour image")
    if len(model.outputs) != 1:
        raise unfit(f"has {len(model.outputs)} outputs")
    if shape[1] is None and asked is None:
        raise UnfitError("takes images of any size: set --size to the one that it was trained on")
    if shape[1] is not None and asked not in (None, shape[1]):
        raise UnfitError(f"takes {shape[1]} x {shape[1]} pixels, not {asked} x {asked}")
    return shape[1] or asked


def normalisation_of(layers: Iterable[Any]) -> Normalisation:
    """Return what a model's layers do to pixels before the stem, combined.

    Raises:
        UnfitError: they do nothing, or something that the build stage can't do.
    """
    scale, offset = np.ones(3), np.zeros(3)
    for layer in layers:
        match type(layer).__name__:
            case "Rescaling":
                gain, shift = np.asarray(layer.scale, float), np.asarray(layer.offset, float)
            case "Normalization":
                mean, variance = (
                    np.ravel(np.asarray(values, float)) for values in (layer.mean, layer.variance)
                )
                gain = 1 / np.sqrt(variance)
                shift = -mean * gain
            case _:
                continue
        scale, offset = scale * gain, offset * gain + shift
    if (scale == 1).all() and not offset.any():
        raise UnfitError(
            "does not normalise pixels itself, so the normalisation that it was trained with is unknown: put"
            " it into the model, for example as keras.layers.Rescaling(1 / 127.5, offset=-1) before the base,"
            f" and {SAVE_WHOLE}"
        )
    mean, std = -offset / scale, 1 / scale
    if np.abs(mean - PIXEL_ZERO).max() > _NEAR_GREY:
        raise UnfitError(
            f"takes (pixel - {mean.round(1).tolist()}) / {std.round(1).tolist()}, but build only takes means"
            f" within {_NEAR_GREY} of {PIXEL_ZERO}: {ARCHITECTURE} normalises pixels itself, unless it is"
            " made with include_preprocessing=False, and needs no Rescaling before; train it that way, or"
            " convert it to TFLite and use `build import`"
        )
    found = Normalisation(mean.astype(np.float32), std.astype(np.float32))
    return IMAGENET if _close(found, IMAGENET) else found


def _close(one: Normalisation, other: Normalisation) -> bool:
    return bool(np.allclose(one.mean, other.mean, rtol=1e-5) and np.allclose(one.std, other.std, rtol=1e-5))


def _check_same(model: Any, own: tf_keras.Model, trained_on: Normalisation, side: int) -> None:
    """Check on one image that Keras' own model with these weights computes the same as the loaded one."""
    pixels = np.random.default_rng(0).uniform(60, 200, (1, side, side, 3)).astype(np.float32)
    theirs = np.asarray(model(pixels, training=False), np.float32)
    logits = own((pixels - trained_on.mean) / trained_on.std * IMAGENET.std + IMAGENET.mean)
    is_float32 = all(layer.compute_dtype == "float32" for layer in _layers(model))
    tolerance = (_FLOAT32_TOLERANCE if is_float32 else _MIXED_TOLERANCE) * np.abs(theirs).max()
    for ours in (logits.numpy(), tf_keras.activations.softmax(logits).numpy()):
        if theirs.shape == ours.shape and np.allclose(theirs, ours, rtol=0, atol=tolerance):
            return
    raise unfit(f"does not compute the same as {ARCHITECTURE} with a head that build knows")
