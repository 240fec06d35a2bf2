"""Files of Keras 2 and 3 with only weights, read by h5py.

They tell neither the input's size nor, except by the normalising layers there are, how pixels were
normalised.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cache

import h5py
import numpy as np
from numpy.typing import NDArray

from build.network.architecture import ARCHITECTURE, INPUT_SIZE
from build.network.keras_layers import SAVE_WHOLE, Arrays, UnfitError
from build.network.model import keras_model

# In the order of `get_weights`; Keras 2 appends `:0` to each.
_PARTS = (
    *("kernel", "depthwise_kernel", "bias"),
    *("gamma", "beta", "moving_mean", "moving_variance"),
)
# Keras 3 names a layer in its file by its class and how many of that class come before it.
_GROUP = re.compile(r"(?P<folder>.+)/(?P<kind>[^/]+?)(?:_(?P<number>\d+))?/vars")
_KINDS = {
    "Conv2D": "conv2d",
    "DepthwiseConv2D": "depthwise_conv2d",
    "BatchNormalization": "batch_normalization",
    "Dense": "dense",
}


def weights_by_name(file: h5py.File) -> dict[str, Arrays]:
    """Return the weights of every layer by its name; the head can have any name.

    Raises:
        UnfitError: the file is not a weights file, or its model is known not to normalise pixels as Keras'
            own does.
    """
    return _of_keras_2(file) if "layer_names" in file.attrs else _of_keras_3(file)


def _of_keras_2(file: h5py.File) -> dict[str, Arrays]:
    names = [name.decode() if isinstance(name, bytes) else name for name in file.attrs["layer_names"]]
    # A base that is nested as one layer hides its normalisation.
    _check_normalisation(names, 1 if "stem_conv" in names else 0)
    layers: dict[str, dict[int, NDArray[np.float32]]] = defaultdict(dict)
    for path, values in _datasets(file):
        *_, layer, part = path.removesuffix(":0").split("/")
        if part in _PARTS:
            layers[layer][_PARTS.index(part)] = values
    return {name: [parts[place] for place in sorted(parts)] for name, parts in layers.items()}


def _of_keras_3(file: h5py.File) -> dict[str, Arrays]:
    """Return the weights by layer: the base's are in the order of Keras' own model, and get its names."""
    groups = _groups(file)
    bases = {folder for folder, kind, _ in groups if kind == "depthwise_conv2d"}
    if len(bases) != 1:
        raise UnfitError(f"holds no weights of {ARCHITECTURE}: {SAVE_WHOLE}")
    kinds = [kind for _, kind, _ in groups]
    in_base = {kind: [at for at in sorted(groups) if at[:2] == (*bases, kind)] for kind in _KINDS.values()}
    layers: dict[str, Arrays] = {}
    for name, kind in _own_layers():
        if in_base[kind]:
            layers[name] = groups.pop(in_base[kind].pop(0))
    # Only if the file lists layers without weights too. Another network is refused as such, by `filled`.
    if "activation" in kinds and "top_conv" in layers:
        _check_normalisation(kinds, 1)
    for (_, kind, number), arrays in groups.items():
        if kind in _KINDS.values():
            layers[f"{kind}_{number}"] = arrays
    return layers


@cache
def _own_layers() -> list[tuple[str, str]]:
    """Return name and kind of the layers with weights in Keras' own model, in its order."""
    layers = keras_model(INPUT_SIZE, 2).layers
    return [(layer.name, _KINDS[type(layer).__name__]) for layer in layers if type(layer).__name__ in _KINDS]


def _groups(file: h5py.File) -> dict[tuple[str, str, int], Arrays]:
    """Return each layer's weights, by folder in the file, kind, and how many of that kind come before it."""
    groups: dict[tuple[str, str, int], Arrays] = {}

    def visit(path: str, item: object) -> None:
        match = _GROUP.fullmatch(path)
        if match and isinstance(item, h5py.Group):
            at = match["folder"], match["kind"], int(match["number"] or 0)
            groups[at] = [item[number][()] for number in sorted(item, key=int)]

    file.visititems(visit)
    return groups


def _datasets(file: h5py.File) -> list[tuple[str, NDArray[np.float32]]]:
    found: list[tuple[str, NDArray[np.float32]]] = []

    def visit(path: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found.append((path, item[()]))

    file.visititems(visit)
    return found


def _check_normalisation(names: Sequence[str], expected: int) -> None:
    """Check that each normalising layer of Keras' own model is there `expected` times: once or not at all."""
    for kind in ("rescaling", "normalization"):
        found = sum(name.startswith(kind) for name in names)
        if found != expected:
            raise UnfitError(
                f"is from a model that normalises pixels differently from {ARCHITECTURE} itself, which"
                f" weights alone do not describe: {SAVE_WHOLE}"
            )
