"""Where a network comes from: Keras' weights, a folder that `train` left, or a bundle."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from build.architecture import ARCHITECTURE, INPUT_SIZE
from build.errors import BuildError
from build.model import LayerWeights, Weights, get_weights, keras_weights, network
from service.bundle import Classes, load_bundle, verify_variant
from service.manifest import MANIFEST, Filter, Preprocessing, Resize, Training

IMAGENET = Path(__file__).parent / "imagenet"
IMAGENET_CLASSES = 1000
FLOAT_VARIANT = "fp32"
_WEIGHTS = "weights.npz"
_TRAINING = "training.json"

# A kernel's name in a converted file; its layer is the last folder of it.
_KERNEL = re.compile(r"(?:^|/)(?P<layer>\w+)/(?:Conv2D|depthwise|MatMul)$")
# From TFLite's layout to Keras'; a depthwise kernel's is [1, h, w, c] to [h, w, c, 1].
_DENSE, _CONVOLUTION = (1, 0), (1, 2, 3, 0)


@dataclass(frozen=True)
class Network:
    """Folded weights and what is known of them.

    `seen_images`: the first 16 hex digits of the SHA-256 of every image trained on.
    """

    source: str
    weights: Weights
    classes: Classes
    preprocessing: Preprocessing
    training: Training | None = None
    seen_images: frozenset[str] = frozenset()


def load_network(
    source: str, *, labels: Path | None = None, class_ids: Path | None = None, size: int = INPUT_SIZE
) -> Network:
    """Load a network from `imagenet`, a Keras `.h5` file, a folder left by `train`, or a bundle's folder.

    `labels` and `class_ids` are text files with a line a class; networks of 1,000 classes have
    ImageNet's without them. `size` is the side of the input, in pixels; a trained folder and a
    bundle have their own.

    Raises:
        BuildError: there is no such source, or it is not what it should be.
    """
    path = Path(source)
    if (path / _TRAINING).is_file():
        return _load_trained(path)
    if (path / MANIFEST).is_file():
        return _load_bundle(path)
    if source != "imagenet" and not path.is_file():
        raise BuildError(
            f"--weights {source} is neither `imagenet`, nor a Keras .h5 file, nor a folder that `train` left,"
            " nor a bundle's folder"
        )
    try:
        weights = keras_weights(source, IMAGENET_CLASSES if source == "imagenet" else _count_classes(path))
    except (OSError, ValueError, KeyError) as error:
        raise BuildError(f"{source} does not hold weights of {ARCHITECTURE}: {error}") from None
    classes = read_classes(weights["predictions"].bias.size, labels, class_ids)
    return Network(path.name, weights, classes, default_preprocessing(size))


def save_trained(folder: Path, trained: Network, training: Training) -> None:
    """Write a trained network to `folder`, where `load_network` finds it."""
    arrays = {
        f"{layer}/{part}": getattr(weights, part)
        for layer, weights in trained.weights.items()
        for part in ("kernel", "bias")
    }
    np.savez(folder / _WEIGHTS, allow_pickle=False, **arrays)
    record = {
        "training": training.model_dump(mode="json"),
        "preprocessing": trained.preprocessing.model_dump(mode="json"),
        "labels": trained.classes.labels,
        "class_ids": trained.classes.class_ids,
        "seen_images": sorted(trained.seen_images),
    }
    # Last, since its presence says that the folder is whole.
    (folder / _TRAINING).write_text(json.dumps(record, indent=1) + "\n")


def default_preprocessing(size: int) -> Preprocessing:
    """Shorter side, centre 0.875, bicubic: what serves this architecture best."""
    return Preprocessing(
        height=size, width=size, resize=Resize.SHORTER_SIDE, crop_fraction=0.875, filter=Filter.BICUBIC
    )


def read_classes(count: int, labels: Path | None, class_ids: Path | None) -> Classes:
    """Labels and class ids from text files, or ImageNet's where there are 1,000 and no file is named.

    Class ids may be one fewer than the labels if the first label is a background class.

    Raises:
        BuildError: a file can't be read, or has another number of lines than there are classes.
    """
    if labels is None:
        if count != IMAGENET_CLASSES:
            raise BuildError(f"the network has {count} classes; name them with --labels FILE, one a line")
        labels, class_ids = IMAGENET / "labels.txt", class_ids or IMAGENET / "class_ids.txt"
    names = _read_lines(labels)
    ids = None if class_ids is None else _read_lines(class_ids)
    if ids is not None and len(ids) == len(names) - 1 and names[0].lower() == "background":
        ids = (names[0], *ids)
    for file, lines in ((labels, names), (class_ids, ids)):
        if lines is not None and len(lines) != count:
            raise BuildError(f"{file} has {len(lines)} lines, but the network has {count} classes")
    return Classes(names, ids)


def weights_digest(weights: Weights) -> str:
    """The SHA-256 over all names and values, in hex."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        for part in (weights[name].kernel, weights[name].bias):
            digest.update(f"{name}{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def read_back(path: Path, size: int, classes: int) -> Weights:
    """The folded weights out of a float32 `.tflite` file that the build stage converted.

    Raises:
        BuildError: the file is not one.
    """
    interpreter = Interpreter(str(path))
    tensors = interpreter.get_tensor_details()
    kernels = {match["layer"]: t for t in tensors if (match := _KERNEL.search(t["name"]))}
    weights: Weights = {}
    for name, expected in get_weights(network(size, classes)).items():
        try:
            bias = next(
                t
                for t in tensors
                if f"/{name}/BiasAdd" in t["name"] and tuple(t["shape"]) == expected.bias.shape
            )
            kernel = interpreter.get_tensor(kernels[name]["index"])
            axes = _DENSE if kernel.ndim == 2 else _CONVOLUTION
            weights[name] = LayerWeights(
                kernel.transpose(axes).reshape(expected.kernel.shape), interpreter.get_tensor(bias["index"])
            )
        except (StopIteration, KeyError, ValueError):
            raise BuildError(
                f"{path} is not a float32 {ARCHITECTURE} of this build stage: no {name}"
            ) from None
    return weights


def _load_trained(folder: Path) -> Network:
    record = json.loads((folder / _TRAINING).read_text())
    with np.load(folder / _WEIGHTS, allow_pickle=False) as arrays:
        layers = {name.partition("/")[0] for name in arrays}
        weights = {name: LayerWeights(arrays[f"{name}/kernel"], arrays[f"{name}/bias"]) for name in layers}
    class_ids = record["class_ids"]
    return Network(
        source=folder.name,
        weights=weights,
        classes=Classes(tuple(record["labels"]), None if class_ids is None else tuple(class_ids)),
        preprocessing=Preprocessing.model_validate(record["preprocessing"]),
        training=Training.model_validate(record["training"]),
        seen_images=frozenset(record["seen_images"]),
    )


def _load_bundle(folder: Path) -> Network:
    bundle = load_bundle(folder)
    verify_variant(bundle, FLOAT_VARIANT)
    preprocessing = bundle.manifest.preprocessing
    return Network(
        source=bundle.manifest.name,
        weights=read_back(bundle.variant_path(FLOAT_VARIANT), preprocessing.height, bundle.manifest.classes),
        classes=Classes(bundle.labels, bundle.class_ids),
        preprocessing=preprocessing,
        training=bundle.manifest.training,
        seen_images=bundle.seen_images,
    )


def _count_classes(path: Path) -> int:
    """The number of classes of a Keras weights file: the length of its last layer's bias."""
    sizes: list[int] = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and "predictions" in name and "bias" in name:
            sizes.append(item.shape[0])

    with h5py.File(path) as file:
        file.visititems(visit)
    if len(sizes) != 1:
        raise ValueError("no layer named predictions")
    return sizes[0]


def _read_lines(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{path} can't be read: {error}") from None
