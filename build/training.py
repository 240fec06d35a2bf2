"""Fine-tuning with distillation: the network learns from labels and from the weights it started from.

The teacher's probabilities are the mean over an image and its mirror image, which is a little
better than the teacher alone; the student learns to give them from one view. Labelled images
add the cross-entropy to their label. The method is that of Hinton, Vinyals, Dean, "Distilling
the Knowledge in a Neural Network", 2015, with the student starting at the teacher.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray
from tqdm import tqdm

from build.augmentation import training_view
from build.data import Photo, PhotoSet, is_held_out, without_repeats
from build.errors import BuildError
from build.files import write_whole
from build.model import Weights, get_weights, network, set_weights, with_pixel_input
from build.schedule import Schedule
from build.versions import tool_versions
from build.weights import Network, save_trained, weights_digest
from service.bundle import SEEN_DIGITS
from service.inference.image import load_pixels
from service.inference.labelled import image_set
from service.manifest import Preprocessing, Training

UNLABELLED = -1
WARM_UP_STEPS = 20
STEPS_PER_CHECKPOINT = 25
HELD_OUT_BATCH = 10


@dataclass(frozen=True)
class Trained:
    """What training left: the weights, and what it saw.

    `losses` are on the held-out photos: mean KL to the teacher in nats, and the mean
    cross-entropy of the labelled ones, before and after.
    """

    weights: Weights
    steps: int
    seconds: float
    losses: dict[str, float]


def train_network(
    start: Network, sets: Sequence[PhotoSet], schedule: Schedule, folder: Path, command: str
) -> Network:
    """Fine-tune a network on sets of photos and leave it in `folder`, where `load_network` finds it.

    Raises:
        BuildError: there are too few photos, or `folder` holds another run.
    """
    photos = without_repeats(sets)
    trained = train(start.weights, photos, start.preprocessing, schedule, folder)
    training = Training(
        command=command,
        started_from=start.source,
        started_from_sha256=weights_digest(start.weights),
        tools=tool_versions(),
        images=tuple(image_set(s.name, [photo.sha256 for photo in s.photos]) for s in sets),
        seed=schedule.seed,
        steps=trained.steps,
        batch_size=schedule.batch_size,
        learning_rate=schedule.learning_rate,
        seconds=trained.seconds,
        losses=trained.losses,
    )
    seen = start.seen_images | {photo.sha256[:SEEN_DIGITS] for photo in photos}
    network = replace(start, source=folder.name, weights=trained.weights, training=training, seen_images=seen)
    save_trained(folder, network, training)
    return network


def train(
    weights: Weights, photos: Sequence[Photo], preprocessing: Preprocessing, schedule: Schedule, folder: Path
) -> Trained:
    """Fine-tune a network; go on from the last checkpoint in `folder` if there is one.

    One photo in twenty, chosen by content hash, is held out to watch the losses.

    Raises:
        BuildError: too few photos, or `folder` holds the checkpoints of another run, or they
            can't be read or written.
    """
    training = [photo for photo in photos if not is_held_out(photo)]
    held_out = [photo for photo in photos if is_held_out(photo)]
    steps = schedule.epochs * (len(training) // schedule.batch_size)
    if not steps or not held_out:
        raise BuildError(f"{len(photos)} photos are too few to train on in batches of {schedule.batch_size}")
    _claim(folder, _run_record(weights, photos, preprocessing, schedule))
    classes = weights["predictions"].bias.size
    teacher, student = (with_pixel_input(network(preprocessing.height, classes)) for _ in range(2))
    for model in (teacher, student):
        set_weights(_inner(model), weights)
    optimizer = tf_keras.optimizers.Adam(
        _warm_up_and_cosine(schedule.learning_rate, steps), use_ema=True, ema_momentum=0.99
    )
    optimizer.build(student.trainable_variables)
    seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)
    checkpoint = tf.train.Checkpoint(student=student, optimizer=optimizer, seconds=seconds)
    manager = _restore(checkpoint, folder)
    before = _losses(teacher, teacher, held_out, preprocessing)

    step = _step_function(student, teacher, optimizer, schedule.label_weight)
    done = int(optimizer.iterations)
    started = time.monotonic() - float(seconds)
    progress = tqdm(total=steps, initial=done, desc="train", unit="step", mininterval=1)
    for views, labels in _batches(training, preprocessing, schedule, done, steps):
        loss = step(views, labels)
        done += 1
        progress.update()
        if done % STEPS_PER_CHECKPOINT == 0 or done == steps:
            progress.set_postfix(loss=f"{float(loss):.4f}")
            seconds.assign(time.monotonic() - started)
            _save(manager, done)
    progress.close()
    optimizer.finalize_variable_values(student.trainable_variables)
    after = _losses(student, teacher, held_out, preprocessing)
    losses = {f"{name}_before": value for name, value in before.items()} | {
        f"{name}_after": value for name, value in after.items()
    }
    return Trained(get_weights(_inner(student)), steps, round(float(seconds), 1), losses)


def _inner(model: tf_keras.Model) -> tf_keras.Model:
    return model.layers[-1]


def _step_function(student: Any, teacher: Any, optimizer: Any, label_weight: float) -> Any:
    @tf.function
    def step(views: Any, labels: Any) -> Any:
        target = _soft_labels(teacher, views)
        with tf.GradientTape() as tape:
            logits = student(views, training=True)
            distillation = tf.reduce_mean(_kl(target, logits))
            known = tf.cast(labels != UNLABELLED, tf.float32)
            entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
            loss = distillation + label_weight * tf.reduce_mean(known * entropy)
        gradients = tape.gradient(loss, student.trainable_variables)
        optimizer.apply_gradients(zip(gradients, student.trainable_variables, strict=True))
        return loss

    return step


def _soft_labels(teacher: Any, views: Any) -> Any:
    mirrored = tf.reverse(views, axis=[2])
    return (tf.nn.softmax(teacher(views)) + tf.nn.softmax(teacher(mirrored))) / 2


def _kl(target: Any, logits: Any) -> Any:
    return tf.reduce_sum(
        target * (tf.math.log(tf.maximum(target, 1e-12)) - tf.nn.log_softmax(logits)), axis=-1
    )


def _losses(
    student: Any, teacher: Any, photos: Sequence[Photo], preprocessing: Preprocessing
) -> dict[str, float]:
    """Mean KL to the teacher, and mean cross-entropy of the labelled photos where there are any."""

    @tf.function
    def measure(pixels: Any) -> Any:
        views = tf.cast(pixels, tf.float32)
        logits = student(views)
        return _kl(_soft_labels(teacher, views), logits), -tf.nn.log_softmax(logits)

    divergences, entropies = [], []
    for start in tqdm(range(0, len(photos), HELD_OUT_BATCH), desc="held out", unit="batch", leave=False):
        batch = photos[start : start + HELD_OUT_BATCH]
        pixels = [load_pixels(photo.path.read_bytes(), preprocessing) for photo in batch]
        divergence, entropy = measure(np.stack(pixels))
        divergences += divergence.numpy().tolist()
        entropies += [
            float(row[photo.label])
            for row, photo in zip(entropy.numpy(), batch, strict=True)
            if photo.label is not None
        ]
    losses = {"kl_nats": float(np.mean(divergences))}
    return losses | ({"cross_entropy_nats": float(np.mean(entropies))} if entropies else {})


def _warm_up_and_cosine(peak: float, steps: int) -> tf_keras.optimizers.schedules.LearningRateSchedule:
    warm_up = min(WARM_UP_STEPS, steps // 2)
    return tf_keras.optimizers.schedules.CosineDecay(
        0.0 if warm_up else peak, max(steps - warm_up, 1), warmup_target=peak, warmup_steps=warm_up
    )


def _batches(
    photos: Sequence[Photo], preprocessing: Preprocessing, schedule: Schedule, first: int, last: int
) -> Iterator[tuple[Any, Any]]:
    """Batches `first` … `last` - 1 of the run; a pure function of the seed, so that a run resumes exactly."""
    per_epoch = len(photos) // schedule.batch_size
    epochs = math.ceil(last / per_epoch)
    order = np.concatenate(
        [
            np.random.default_rng((schedule.seed, epoch)).permutation(len(photos))[
                : per_epoch * schedule.batch_size
            ]
            for epoch in range(epochs)
        ]
    )

    def view(position: NDArray[np.int64]) -> tuple[NDArray[np.uint8], np.int32]:
        photo = photos[int(order[position])]
        random = np.random.default_rng((schedule.seed, 1, int(position)))
        label = UNLABELLED if photo.label is None else photo.label
        return training_view(photo.path.read_bytes(), preprocessing, random), np.int32(label)

    def load(position: Any) -> tuple[Any, Any]:
        pixels, label = tf.numpy_function(view, [position], [tf.uint8, tf.int32])
        pixels.set_shape((preprocessing.height, preprocessing.width, 3))
        label.set_shape(())
        return tf.cast(pixels, tf.float32), label

    positions = tf.data.Dataset.range(first * schedule.batch_size, last * schedule.batch_size)
    yield from positions.map(load, num_parallel_calls=2).batch(schedule.batch_size).prefetch(2)


def _run_record(
    weights: Weights, photos: Sequence[Photo], preprocessing: Preprocessing, schedule: Schedule
) -> bytes:
    """All that a run's outcome depends on: what is equal in this goes on where the other stopped."""
    record = {
        "schedule": asdict(schedule),
        "started_from_sha256": weights_digest(weights),
        "preprocessing": preprocessing.model_dump(mode="json"),
        "photos": [(photo.sha256, photo.label) for photo in photos],
    }
    return json.dumps(record).encode()


def _claim(folder: Path, record: bytes) -> None:
    """Make a folder this run's, if it is not another's."""
    folder.mkdir(parents=True, exist_ok=True)
    run = folder / "run.json"
    if run.exists() and run.read_bytes() != record:
        raise BuildError(
            f"{folder} holds the checkpoints of a run with other options or photos; remove it, or name"
            " another folder (all: --run, train: --out)"
        )
    write_whole(run, record)


def _save(manager: Any, done: int) -> None:
    try:
        manager.save(done)
    except tf.errors.OpError as error:
        reason = " ".join(error.message.split())
        raise BuildError(f"a checkpoint can't be written to {manager.directory}: {reason}") from None


def _restore(checkpoint: Any, folder: Path) -> Any:
    """Restore the last checkpoint, if there is one; returns what saves the next ones."""
    manager = tf.train.CheckpointManager(checkpoint, str(folder / "checkpoints"), max_to_keep=1)
    if manager.latest_checkpoint:
        try:
            checkpoint.restore(manager.latest_checkpoint).assert_consumed()
        except (tf.errors.OpError, AssertionError, LookupError, ValueError):
            raise BuildError(
                f"the checkpoint {manager.latest_checkpoint} is damaged; remove {folder} to train anew"
            ) from None
        tqdm.write(f"resuming from {manager.latest_checkpoint}")
    return manager
