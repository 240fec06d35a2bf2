"""Checks of a Keras model's configuration, before Keras makes anything of it.

Keras imports the modules that the configuration names, and calls what it finds there: Keras 2 in any module,
Keras 3 in its own.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import tf_keras

from build.network.keras_layers import SAVE_WHOLE, UnfitError, unfit

GROUPS = {"Functional", "Model", "Sequential"}
WEIGHTED = {"BatchNormalization", "Conv2D", "Dense", "DepthwiseConv2D"}
_NORMALISING = {"Normalization", "Rescaling"}
_PLAIN = {
    "Activation",
    "Add",
    "Dropout",
    "GlobalAveragePooling2D",
    "InputLayer",
    "Multiply",
    "Reshape",
    "Softmax",
}
# These change pixels only during training.
_AUGMENTING = {
    *("GaussianNoise", "RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation"),
    *("RandomTranslation", "RandomZoom"),
}
_LAYERS = GROUPS | WEIGHTED | _NORMALISING | _PLAIN | _AUGMENTING
# These matter only during training, but are in a file all the same.
_TRAINING = {
    name
    for library in (keras, tf_keras)
    for part in ("constraints", "initializers", "losses", "metrics", "optimizers", "regularizers")
    for name, found in vars(getattr(library, part)).items()
    if isinstance(found, type)
}
_DTYPES = {"DTypePolicy", "FloatDTypePolicy", "Policy"}
_VALUES = {"TensorShape", "__keras_tensor__", "__numpy__", "__tensor__", "__tuple__"}
_OBJECTS = _LAYERS | _TRAINING | _DTYPES | _VALUES
_FUNCTIONS = {"linear", "relu", "sigmoid", "silu", "softmax", "swish"}
# Keras names `builtins` as the module of its own functions.
_PACKAGES = {"builtins", "keras", "tf_keras"}
# The module of an initializer in Keras 2's own EfficientNetV2.
_INITIALIZERS = "tensorflow.python.ops.init_ops_v2"


def check_config(config: Mapping[str, Any]) -> None:
    """Check a whole model's configuration before it is loaded, since loading can run code that it names.

    Raises:
        UnfitError: it names a layer that the build stage does not know, or anything that is not Keras' own.
    """
    _check_layers(config)
    for found in _objects(config):
        _check_object(found)


def _check_layers(config: Mapping[str, Any]) -> None:
    kind, inner = str(config["class_name"]), config["config"]
    if kind not in _LAYERS:
        raise unfit(f"has a layer {inner.get('name')} of type {kind}")
    if kind in GROUPS:
        for layer in inner["layers"]:
            _check_layers(layer)


def _objects(part: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every part, at any depth, that Keras makes an object from."""
    if isinstance(part, Mapping):
        if "class_name" in part:
            yield part
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from _objects(inner)


def _check_object(config: Mapping[str, Any]) -> None:
    kind, module = str(config["class_name"]), str(config.get("module") or "keras")
    is_function = kind == "function"
    name = str(config.get("config")) if is_function else kind
    is_known = name in (_FUNCTIONS if is_function else _OBJECTS)
    is_registered = config.get("registered_name") not in (None, name)
    is_keras = module == _INITIALIZERS or module.partition(".")[0] in _PACKAGES
    if not is_known or is_registered or not is_keras:
        named = config.get("registered_name") or name
        raise UnfitError(
            f"names {named} of {module}, which is not a part of Keras that build knows: train without it, and"
            f" {SAVE_WHOLE}"
        )
