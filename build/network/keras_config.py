"""What the configuration of a Keras model names, checked before Keras makes anything of it.

Keras imports modules and calls what it finds in them as the configuration says: Keras 2 any, Keras 3 its own.
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
# What changes pixels in training alone.
_AUGMENTING = {
    *("GaussianNoise", "RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation"),
    *("RandomTranslation", "RandomZoom"),
}
_LAYERS = GROUPS | WEIGHTED | _NORMALISING | _PLAIN | _AUGMENTING
# What matters in training alone, and is in a file all the same.
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
# Keras says `builtins` of its own functions.
_PACKAGES = {"builtins", "keras", "tf_keras"}
# Where an initializer of Keras 2's own EfficientNetV2 is from.
_INITIALIZERS = "tensorflow.python.ops.init_ops_v2"


def check_config(config: Mapping[str, Any]) -> None:
    """Check a whole model's configuration before it is loaded, which may run code that a file brings along.

    Raises:
        UnfitError: it names a layer that the build stage does not know, or anything that is not Keras' own.
    """
    _check_layers(config)
    for found in _objects(config):
        _check_object(found)


def _check_layers(config: Mapping[str, Any]) -> None:
    kind, inner = str(config["class_name"]), config["config"]
    if kind not in _LAYERS:
        raise unfit(f"has a layer {inner.get('name')} of the kind {kind}")
    if kind in GROUPS:
        for layer in inner["layers"]:
            _check_layers(layer)


def _objects(part: Any) -> Iterator[Mapping[str, Any]]:
    """All in it that Keras makes an object of, at any depth."""
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
            f"names {named} of {module}, which is none of Keras' own that build knows: train without it, and"
            f" {SAVE_WHOLE}"
        )
