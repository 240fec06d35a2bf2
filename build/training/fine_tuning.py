"""Fine-tuning with distillation: the network learns from labels and from the weights it started from.

The teacher's probabilities are the mean over an image and its mirror image, which is slightly
better than the teacher alone; the student learns to give them from one view. Labelled images
add the cross-entropy to their label. The method is that of Hinton, Vinyals, Dean, "Distilling
the Knowledge in a Neural Network", 2015, with the student starting at the teacher's weights.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf
import tf_keras

from build.errors import BuildError
from build.network.model import Weights, get_weights, network, set_weights, with_pixel_input
from build.network.weights import Network, save_trained, weights_digest
from build.photos.augmentation import MILD
from build.photos.data import Photo, PhotoSet, is_held_out, seen_keys, without_repeats
from build.training.distillation import divergence, held_out_losses
from build.training.loop import UNLABELLED, LossFunction, Views, claim, run_steps, steps_of
from build.training.schedule import Schedule
from build.versions import tool_versions
from service.bundle.manifest import Preprocessing, Temperature, Training


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a training took, and what came of it.

    `losses` are measured before and after, on photos that were not trained on. `temperature`: what the
    weights' logits are already divided by, if one was fitted.
    """

    steps: int
    seconds: float
    losses: dict[str, float]
    temperature: Temperature | None = None


@dataclass(frozen=True, kw_only=True)
class Trained(Run):
    """The result of a training of float weights."""

    weights: Weights


def train_network(
    start: Network,
    sets: Sequence[PhotoSet],
    schedule: Schedule,
    label_weight: float,
    folder: Path,
    command: str,
) -> Network:
    """Fine-tune a network on sets of photos and save it in `folder`, where `load_network` finds it.

    Raises:
        BuildError: there are too few photos, or `folder` holds another run.
    """
    photos = without_repeats(sets)
    trained = train(start.weights, photos, start.preprocessing, schedule, label_weight, folder)
    training = training_record(start, sets, schedule, trained, command, "distillation")
    seen = start.seen_images | seen_keys(photos)
    network = replace(start, source=folder.name, weights=trained.weights, training=training, seen_images=seen)
    save_trained(folder, network, training)
    return network


def training_record(
    start: Network,
    sets: Sequence[PhotoSet],
    schedule: Schedule,
    run: Run,
    command: str,
    method: Literal["distillation", "new-classes", "quantization-aware"],
) -> Training:
    """Return what the manifest says about a training."""
    return Training(
        method=method,
        command=command,
        started_from=start.source,
        started_from_sha256=weights_digest(start.weights),
        tools=tool_versions(),
        images=tuple(photo_set.image_set for photo_set in sets),
        seed=schedule.seed,
        steps=run.steps,
        batch_size=schedule.batch_size,
        learning_rate=schedule.learning_rate,
        seconds=run.seconds,
        losses=run.losses,
        temperature=run.temperature,
    )


def train(
    weights: Weights,
    photos: Sequence[Photo],
    preprocessing: Preprocessing,
    schedule: Schedule,
    label_weight: float,
    folder: Path,
) -> Trained:
    """Fine-tune a network, resuming from the last checkpoint in `folder` if there is one.

    One photo in twenty, chosen by its content, is held out to measure the losses: the mean KL to the teacher
    in nats, and the mean cross-entropy of the labelled ones. `label_weight` is the weight of the labels'
    cross-entropy in the loss.

    Raises:
        BuildError: there are too few photos, or `folder` holds the checkpoints of another run, or they
            can't be read or written.
    """
    training, held_out = split_held_out(photos)
    steps = steps_of(training, schedule)
    views = Views(training, preprocessing, MILD)
    claim(folder, run_record(weights, views, schedule) | {"label_weight": label_weight})
    classes = weights["predictions"].bias.size
    teacher, student = (with_pixel_input(network(preprocessing.height, classes)) for _ in range(2))
    for model in (teacher, student):
        set_weights(inner(model), weights)
    teacher.trainable = False

    def losses(of: tf_keras.Model) -> dict[str, float]:
        return held_out_losses(of, lambda views: _soft_labels(teacher, views), held_out, preprocessing)

    before = losses(teacher)
    loss = _loss(student, teacher, label_weight)
    seconds = run_steps("train", student, loss, views, schedule, folder)
    return Trained(
        weights=get_weights(inner(student)),
        steps=steps,
        seconds=seconds,
        losses=before_and_after(before, losses(student)),
    )


def split_held_out(photos: Sequence[Photo]) -> tuple[list[Photo], list[Photo]]:
    """Return the photos to train on, and those held out to measure losses: one in twenty, by content.

    Raises:
        BuildError: there are so few that none is held out.
    """
    training = [photo for photo in photos if not is_held_out(photo)]
    held_out = [photo for photo in photos if is_held_out(photo)]
    if not held_out:
        raise BuildError(f"{len(photos)} photos are too few to train on: none is held out to measure losses")
    return training, held_out


def run_record(weights: Weights, views: Views, schedule: Schedule) -> dict[str, Any]:
    """Return what the outcome of a training of float weights depends on, for `claim`."""
    return view_record(views, schedule) | {"started_from_sha256": weights_digest(weights)}


def view_record(views: Views, schedule: Schedule) -> dict[str, Any]:
    """Return what the views of any training depend on, and how long and how fast it learns from them."""
    return {
        "schedule": asdict(schedule),
        "preprocessing": views.preprocessing.model_dump(mode="json"),
        "augmentation": asdict(views.augmentation),
        "photos": [(photo.sha256, photo.label) for photo in views.photos],
    }


def before_and_after(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return losses before and after training, under the names that the manifest has."""
    return {f"{name}_before": value for name, value in before.items()} | {
        f"{name}_after": value for name, value in after.items()
    }


def inner(model: tf_keras.Model) -> tf_keras.Model:
    """Return the network inside a model of `with_pixel_input`."""
    return model.layers[-1]


def _loss(student: tf_keras.Model, teacher: tf_keras.Model, label_weight: float) -> LossFunction:
    def loss(views: Any, labels: Any) -> Any:
        target = _soft_labels(teacher, views)
        logits = student(views, training=True)
        known = tf.cast(labels != UNLABELLED, tf.float32)
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
        return tf.reduce_mean(divergence(target, logits)) + label_weight * tf.reduce_mean(known * entropy)

    return loss


def _soft_labels(teacher: Any, views: Any) -> Any:
    mirrored = tf.reverse(views, axis=[2])
    return (tf.nn.softmax(teacher(views)) + tf.nn.softmax(teacher(mirrored))) / 2
