"""Where a network comes from: Keras' weights, the output folder of `train`, or a bundle."""

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from build.errors import BuildError
from build.files import in_utf8
from build.network.architecture import CROP_FRACTION, INPUT_SIZE
from build.network.classes import IMAGENET_CLASSES, read_classes, read_lines
from build.network.keras_files import load_keras_file
from build.network.keras_layers import HEAD
from build.network.model import LayerWeights, Weights, fold, keras_model
from build.network.read_back import read_back
from build.network.seen import origin_of
from service.bundle.folder import Classes, load_bundle, verify_variant
from service.bundle.manifest import BASELINE, IMPORTED, MANIFEST, Filter, Preprocessing, Resize, Training
from service.host.output import write_whole

_WEIGHTS = "weights.npz"
_TRAINING = "training.json"
_DOWNLOAD_LICENCE = "Apache-2.0"
_UNKNOWN_LICENCE = "unknown"
# Keras' ImageNet weights as the default bundle's training started from them, by `weights_digest`: from a file
# whose classifier was rebuilt from 8-bit values. Like the download, they saw ImageNet's training images.
_REBUILT_SHA256 = "c26ed6d263efe50faec6699b70d5219f63391ade4d1d621248ac9f2e16b28efd"


@dataclass(frozen=True)
class Network:
    """Folded weights and what is known about them.

    `seen_images`: the first 16 hex digits of the SHA-256 of every image known to be trained on. `licence`:
    the weights'. `origin`: the keys `IMPORTED` and `SEEN` of a recipe, if the weights come from elsewhere;
    they belong in the recipe of every variant.
    """

    source: str
    weights: Weights
    classes: Classes
    preprocessing: Preprocessing
    training: Training | None = None
    seen_images: frozenset[str] = frozenset()
    licence: str = _UNKNOWN_LICENCE
    origin: Mapping[str, str | int | float | bool] = field(default_factory=dict)


def load_network(
    source: str, *, labels: Path | None = None, class_ids: Path | None = None, size: int | None = None
) -> Network:
    """Load a network from `imagenet`, a Keras file, the output folder of `train`, or a bundle's folder.

    `labels` and `class_ids` are text files with one line per class; without them, networks of 1,000 classes
    have ImageNet's. `size` is the side of the input in pixels, by default 224. A trained folder and a bundle
    include all of these, a file with a whole model includes the size; what is given must match.

    Raises:
        BuildError: there is no such source, or it is not valid, or does not match what is given.
        BundleError: the bundle is damaged, or has no float variant.
    """
    path = Path(source)
    if (path / _TRAINING).is_file():
        return _as_asked(_load_trained(path), labels, class_ids, size)
    if (path / MANIFEST).is_file():
        return _as_asked(_load_bundle(path), labels, class_ids, size)
    if source != "imagenet" and not path.is_file():
        raise BuildError(
            f"--weights {source} is neither `imagenet`, nor a file saved by Keras (.keras, .h5),"
            " nor an output folder of `train`, nor a bundle's folder"
        )
    if source == "imagenet":
        weights, side, licence, origin = _download(), size or INPUT_SIZE, _DOWNLOAD_LICENCE, {}
    else:
        weights, side = load_keras_file(path, size)
        licence, origin = _UNKNOWN_LICENCE, _origin(path, weights)
    classes = read_classes(weights[HEAD].bias.size, labels, class_ids)
    return Network(
        source=in_utf8(path.name),
        weights=weights,
        classes=classes,
        preprocessing=default_preprocessing(side),
        licence=licence,
        origin=origin,
    )


def save_trained(folder: Path, trained: Network, training: Training) -> None:
    """Write a trained network to `folder`, where `load_network` finds it."""
    arrays = {
        f"{layer}/{part}": getattr(weights, part)
        for layer, weights in trained.weights.items()
        for part in ("kernel", "bias")
    }
    content = BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    write_whole(folder / _WEIGHTS, content.getvalue())
    record = {
        "training": training.model_dump(mode="json"),
        "preprocessing": trained.preprocessing.model_dump(mode="json"),
        "labels": trained.classes.labels,
        "class_ids": trained.classes.class_ids,
        "seen_images": sorted(trained.seen_images),
        "licence": trained.licence,
        "origin": dict(trained.origin),
    }
    # Last, since its presence says that the folder is complete.
    write_whole(folder / _TRAINING, (json.dumps(record, indent=1) + "\n").encode())


def default_preprocessing(size: int) -> Preprocessing:
    """Return what suits this architecture best: shorter side, centre 0.875, bicubic."""
    return Preprocessing(
        height=size,
        width=size,
        resize=Resize.SHORTER_SIDE,
        crop_fraction=CROP_FRACTION,
        filter=Filter.BICUBIC,
    )


def weights_digest(weights: Weights) -> str:
    """Return the SHA-256 over all names and values, in hex."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        for part in (weights[name].kernel, weights[name].bias):
            digest.update(f"{name}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _as_asked(network: Network, labels: Path | None, class_ids: Path | None, size: int | None) -> Network:
    """Return the network if the given names and size are its own."""
    own, side = network.classes, network.preprocessing.height
    for file, lines in ((labels, own.labels), (class_ids, own.class_ids)):
        if file is not None and read_lines(file) != lines:
            raise BuildError(f"{network.source} has its own classes, which are not those in {file}")
    if size not in (None, side):
        raise BuildError(f"{network.source} takes {side} x {side} pixels, not {size} x {size}")
    return network


def _load_trained(folder: Path) -> Network:
    try:
        record = json.loads((folder / _TRAINING).read_bytes())
        content = BytesIO((folder / _WEIGHTS).read_bytes())  # NumPy leaves a damaged file open.
        with np.load(content, allow_pickle=False) as arrays:
            layers = dict.fromkeys(name.partition("/")[0] for name in arrays)
            weights = {n: LayerWeights(arrays[f"{n}/kernel"], arrays[f"{n}/bias"]) for n in layers}
        class_ids = record["class_ids"]
        return Network(
            source=in_utf8(folder.name),
            weights=weights,
            classes=Classes(tuple(record["labels"]), None if class_ids is None else tuple(class_ids)),
            preprocessing=Preprocessing.model_validate(record["preprocessing"]),
            training=Training.model_validate(record["training"]),
            seen_images=frozenset(record["seen_images"]),
            licence=record.get("licence", _UNKNOWN_LICENCE),
            origin=dict(record.get("origin", {})),
        )
    except (OSError, EOFError, KeyError, TypeError, ValueError, BadZipFile, zlib.error) as error:
        raise BuildError(f"{folder} is damaged; train it again: {_one_line(error)}") from None


def _load_bundle(folder: Path) -> Network:
    bundle = load_bundle(folder)
    content = verify_variant(bundle, BASELINE)
    path, preprocessing = bundle.variant_path(BASELINE), bundle.manifest.preprocessing
    return Network(
        source=bundle.manifest.name,
        weights=read_back(path, preprocessing.height, bundle.manifest.classes, content),
        classes=Classes(bundle.labels, bundle.class_ids),
        preprocessing=preprocessing,
        training=bundle.manifest.training,
        seen_images=bundle.seen_images,
        licence=bundle.manifest.licence,
        origin=origin_of(bundle.variant(BASELINE).provenance),
    )


def _origin(path: Path, weights: Weights) -> dict[str, str | int | float | bool]:
    return {} if weights_digest(weights) == _REBUILT_SHA256 else {IMPORTED: in_utf8(path.name)}


def _download() -> Weights:
    try:
        return fold(keras_model(INPUT_SIZE, IMAGENET_CLASSES, weights="imagenet"))
    except Exception as error:  # Keras raises nothing more specific when a download fails.
        raise BuildError(
            f"Keras' weights can't be downloaded; name a file with --weights: {_one_line(error)}"
        ) from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
