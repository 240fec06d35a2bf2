"""A network for new classes: first a new head on frozen features, then the whole network."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray
from tqdm import tqdm

from build.errors import BuildError
from build.network.model import (
    LayerWeights,
    Weights,
    get_weights,
    network,
    normalise,
    set_weights,
    with_pixel_input,
)
from build.network.weights import Network, save_trained
from build.photos.augmentation import MILD, STRONG
from build.photos.data import Photo, PhotoSet, seen_keys
from build.photos.splits import Splits
from build.training.fine_tuning import Trained, before_and_after, inner, run_record, training_record
from build.training.loop import Views, batches, claim, run_steps, steps_of
from build.training.schedule import Schedule
from build.training.temperature import at_temperature, fit_temperature
from service.bundle.manifest import Preprocessing, Temperature
from service.host.output import write_whole
from service.images.pixels import load_pixels
from service.inference.classifier import softmax
from service.measuring.evaluation import expected_calibration_error

LABEL_SMOOTHING = 0.1
"""Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016."""
HEAD_VIEWS = 2
HEAD_EPOCHS = 40
_HEAD_BATCH = 64
_HEAD_RATE = 3e-3
_WATCHED_BATCH = 10
_HEAD = "predictions"
_HEAD_FILE = "head.npz"


def train_classes(start: Network, splits: Splits, schedule: Schedule, folder: Path, command: str) -> Network:
    """Fit a network to the classes of the photos and save it in `folder`, where `load_network` finds it.

    Raises:
        BuildError: there are too few photos, or `folder` holds another run, or can't be read or written.
    """
    photos, classes = splits.train.photos, splits.classes
    trained = fit_classes(
        start.weights, len(classes.labels), photos, splits.val, start.preprocessing, schedule, folder
    )
    training = training_record(start, [splits.train], schedule, trained, command, "new-classes")
    seen = [*photos, *(splits.val.photos if trained.temperature else ())]
    network = Network(
        source=folder.name,
        weights=trained.weights,
        classes=classes,
        preprocessing=start.preprocessing,
        training=training,
        seen_images=start.seen_images | seen_keys(seen),
        licence=start.licence,
        origin=start.origin,
    )
    save_trained(folder, network, training)
    return network


def claim_classes(start: Network, splits: Splits, schedule: Schedule, folder: Path) -> None:
    """Claim `folder` for the run that `train_classes` does with the same arguments, before the work.

    Raises:
        BuildError: the folder holds another run.
    """
    views = Views(splits.train.photos, start.preprocessing, STRONG)
    claim(folder, _record(start.weights, len(splits.classes.labels), views, schedule, splits.val.photos))


def fit_classes(
    weights: Weights,
    classes: int,
    photos: Sequence[Photo],
    validation: PhotoSet,
    preprocessing: Preprocessing,
    schedule: Schedule,
    folder: Path,
) -> Trained:
    """Fit a network to other classes, resuming from the last checkpoint in `folder` if there is one.

    First a new head learns from the features of the unchanged network. Then the whole network learns from
    random views of the photos, by cross-entropy with smoothed labels. Smoothing leaves probabilities too low,
    so the logits get a temperature at the end. `photos` and `validation` must have labels. The temperature is
    fitted on `validation`, which also gives the losses: the mean cross-entropy in nats, and the share of
    photos that are classified wrongly.

    Raises:
        BuildError: there are too few photos, or `folder` holds the checkpoints of another run, or they
            can't be read or written.
    """
    steps = steps_of(photos, schedule)
    views = Views(photos, preprocessing, STRONG)
    claim(folder, _record(weights, classes, views, schedule, validation.photos))
    model = with_pixel_input(network(preprocessing.height, classes))
    head = _head(weights, classes, views, schedule, folder / _HEAD_FILE)
    set_weights(inner(model), weights | {_HEAD: head})

    def loss(pixels: Any, labels: Any) -> Any:
        return tf.reduce_mean(_smoothed_cross_entropy(labels, model(pixels, training=True)))

    labels = np.array([photo.label for photo in validation.photos], np.intp)
    before = _losses(_logits(model, validation.photos, preprocessing), labels)
    seconds = run_steps("train", model, loss, views, schedule, folder)
    logits = _logits(model, validation.photos, preprocessing)
    losses = before_and_after(before, _losses(logits, labels))
    learned = get_weights(inner(model))
    temperature = _temperature(logits, labels, validation)
    if temperature:
        learned |= {_HEAD: at_temperature(learned[_HEAD], temperature.value)}
    return Trained(weights=learned, steps=steps, seconds=seconds, losses=losses, temperature=temperature)


def _record(
    weights: Weights, classes: int, views: Views, schedule: Schedule, validation: Sequence[Photo]
) -> dict[str, Any]:
    return run_record(weights, views, schedule) | {
        "classes": classes,
        # The key keeps its first name: a run can only be resumed if its record is the same.
        "watched": [(photo.sha256, photo.label) for photo in validation],
    }


def _head(weights: Weights, classes: int, views: Views, schedule: Schedule, file: Path) -> LayerWeights:
    """Return the new head: from `file` if an interrupted run saved it there, else fitted and saved there."""
    if not file.exists():
        features, labels = _features(weights, replace(views, augmentation=MILD), schedule)
        kernel, bias = _fit_head(features, labels, classes)
        content = BytesIO()
        np.savez(content, kernel=kernel, bias=bias)
        write_whole(file, content.getvalue())
    try:
        with np.load(BytesIO(file.read_bytes())) as arrays:
            return LayerWeights(arrays["kernel"], arrays["bias"])
    except (BadZipFile, EOFError, KeyError, ValueError):
        raise BuildError(f"{file} is damaged; remove {file.parent} to train anew") from None


def _features(
    weights: Weights, views: Views, schedule: Schedule
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the pooled features of random views, float32[n, features], and their labels, int32[n]."""
    whole = network(views.preprocessing.height, weights[_HEAD].bias.size)
    set_weights(whole, weights)
    extract = tf.function(tf_keras.Model(whole.input, whole.get_layer("avg_pool").output))
    schedule = replace(schedule, epochs=HEAD_VIEWS)
    steps = steps_of(views.photos, schedule)
    features, labels = [], []
    shown = tqdm(total=steps, desc="features", unit="step", mininterval=1)
    for pixels, known in batches(views, schedule, 0, steps):
        features.append(extract(normalise(pixels)).numpy())
        labels.append(known)
        shown.update()
    shown.close()
    return np.concatenate(features), np.concatenate(labels)


def _fit_head(features: NDArray[np.float32], labels: NDArray[np.int32], classes: int) -> list[Any]:
    """Return kernel and bias of a dense layer that predicts the classes from the features."""
    head = tf_keras.Sequential([tf_keras.layers.Dense(classes, kernel_initializer="zeros")])
    head.compile(tf_keras.optimizers.Adam(_HEAD_RATE), _smoothed_cross_entropy)
    # The views are already in random order; without another shuffle, the same seed gives the same head.
    head.fit(features, labels, batch_size=_HEAD_BATCH, epochs=HEAD_EPOCHS, shuffle=False, verbose=0)
    values: list[Any] = head.layers[0].get_weights()
    return values


def _smoothed_cross_entropy(labels: Any, logits: Any) -> Any:
    """Return the loss, float32[n], for labels int32[n] or [n, 1] and logits float32[n, classes]."""
    classes = logits.shape[-1]
    target = tf.one_hot(tf.cast(tf.reshape(labels, [-1]), tf.int32), classes)
    target = (1 - LABEL_SMOOTHING) * target + LABEL_SMOOTHING / classes
    return tf.nn.softmax_cross_entropy_with_logits(target, logits)


def _logits(
    model: tf_keras.Model, photos: Sequence[Photo], preprocessing: Preprocessing
) -> NDArray[np.float32]:
    """Return a network's logits for photos that are preprocessed as in the service: [photos, classes]."""
    answer = tf.function(lambda pixels: model(tf.cast(pixels, tf.float32)))
    logits = []
    for start in range(0, len(photos), _WATCHED_BATCH):
        batch = photos[start : start + _WATCHED_BATCH]
        pixels = np.stack([load_pixels(photo.path.read_bytes(), preprocessing) for photo in batch])
        logits.append(answer(tf.constant(pixels)).numpy())
    return np.concatenate(logits)


def _losses(logits: NDArray[np.float32], labels: NDArray[np.intp]) -> dict[str, float]:
    logarithms = tf.nn.log_softmax(logits).numpy()
    return {
        "cross_entropy_nats": float(-logarithms[np.arange(len(labels)), labels].mean()),
        "error_ratio": float((logits.argmax(axis=1) != labels).mean()),
    }


def _temperature(
    logits: NDArray[np.float32], labels: NDArray[np.intp], photos: PhotoSet
) -> Temperature | None:
    value = fit_temperature(logits, labels)
    if value is None:
        return None
    return Temperature(
        value=value,
        images=photos.image_set,
        ece_before=expected_calibration_error(softmax(logits), labels),
        ece_after=expected_calibration_error(softmax(logits / value), labels),
    )
