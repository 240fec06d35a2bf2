"""The training loop: random views of photos, Adam, a moving average of the weights, checkpoints.

The caller provides what is trained, and towards what: a model and a loss.
"""

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray
from tqdm import tqdm

from build.errors import BuildError
from build.photos.augmentation import Augmentation, training_view
from build.photos.data import Photo
from build.training.schedule import Schedule
from service.bundle.manifest import Preprocessing
from service.host.output import write_whole

UNLABELLED = -1
WARM_UP_STEPS = 20
STEPS_PER_CHECKPOINT = 25
EMA_MOMENTUM = 0.99
_BATCHES_AHEAD = 2
_DECODERS = 2


@dataclass(frozen=True)
class Views:
    """Random views of photos, made by the service's decoder and resize filter."""

    photos: Sequence[Photo]
    preprocessing: Preprocessing
    augmentation: Augmentation


LossFunction = Callable[[Any, Any], Any]
"""From float32[n, height, width, 3], views in 0…255, and int32[n], labels or -1, to a scalar."""
BeforeStep = Callable[[int], None]
"""Called before each step with its number, which starts at 0."""


def nothing(_step: int) -> None:
    """Do nothing: the `BeforeStep` of a training that needs none."""


def claim(folder: Path, record: Mapping[str, Any]) -> None:
    """Claim a folder for the run that `record` describes, unless it belongs to another run.

    `record` holds everything that the run's outcome depends on: a run with an equal record resumes
    where this one stopped.

    Raises:
        BuildError: the folder holds another run.
    """
    content = json.dumps(record, sort_keys=True).encode()
    folder.mkdir(parents=True, exist_ok=True)
    run = folder / "run.json"
    if run.exists() and run.read_bytes() != content:
        raise _other_run(folder)
    write_whole(run, content)


def refuse_other_run(folder: Path, known: Mapping[str, Any]) -> None:
    """Check, before long work, that a folder holds no other run, by the part of its record that is `known`.

    Raises:
        BuildError: the folder holds another run.
    """
    run = folder / "run.json"
    if not run.exists():
        return
    try:
        there = dict(json.loads(run.read_bytes()))
    except (ValueError, TypeError):
        # Damaged: it can't be shown to be this run.
        raise _other_run(folder) from None
    if any(there.get(key) != value for key, value in json.loads(json.dumps(known)).items()):
        raise _other_run(folder)


def steps_of(photos: Sequence[Photo], schedule: Schedule) -> int:
    """Return how many steps a schedule takes.

    Raises:
        BuildError: there are fewer photos than one batch needs.
    """
    steps = schedule.epochs * (len(photos) // schedule.batch_size)
    if not steps:
        raise BuildError(f"{len(photos)} photos are too few to train on in batches of {schedule.batch_size}")
    return steps


def run_steps(
    name: str,
    model: tf_keras.Model,
    loss: LossFunction,
    views: Views,
    schedule: Schedule,
    folder: Path,
    before_step: BeforeStep = nothing,
) -> float:
    """Train a model's trainable variables, resuming from the last checkpoint in `folder` if there is one.

    The model must hold the values that training starts from, even if it resumes, and ends with the moving
    average of its variables over all steps. Whatever `before_step` changes must be part of the model, or
    follow from the step's number. Returns how many seconds training took, including those before an
    interruption.

    Raises:
        BuildError: there are too few photos, the loss is no longer finite, or a checkpoint can't be
            read or written.
        KeyboardInterrupt: training was interrupted; it has a note if there is a checkpoint to resume from.
    """
    steps = steps_of(views.photos, schedule)
    optimizer = tf_keras.optimizers.Adam(
        _warm_up_and_cosine(schedule.learning_rate, steps), use_ema=True, ema_momentum=EMA_MOMENTUM
    )
    optimizer.build(model.trainable_variables)
    start = [tf.identity(variable) for variable in model.trainable_variables]
    seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)
    manager = _restore(tf.train.Checkpoint(student=model, optimizer=optimizer, seconds=seconds), folder)
    done = int(optimizer.iterations)
    started = time.monotonic() - float(seconds)
    step = _step_function(model, loss, optimizer)
    # Closed however the training ends, so that a message about its end gets its own line.
    bar = tqdm(total=steps, initial=done, desc=name, unit="step", mininterval=1)
    with _resume_note(manager), bar as progress:
        for pixels, labels in batches(views, schedule, done, steps):
            before_step(done)
            value = step(tf.constant(pixels, tf.float32), tf.constant(labels))
            done += 1
            progress.update()
            if done % STEPS_PER_CHECKPOINT == 0 or done == steps:
                _refuse_divergence(float(value), done)
                progress.set_postfix(loss=f"{float(value):.4f}")
                seconds.assign(time.monotonic() - started)
                _save(manager, done)
    optimizer.finalize_variable_values(model.trainable_variables)
    _take_out(start, EMA_MOMENTUM**steps, model.trainable_variables)
    return round(float(seconds), 1)


def batches(
    views: Views, schedule: Schedule, first: int, last: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int32]]]:
    """Yield batches `first` … `last` - 1 of a run: pixels uint8[n, height, width, 3] and labels int32[n].

    They depend only on the seed and the position, so that a run resumes exactly.
    """
    photos = views.photos
    order = _order(len(photos), schedule, last)

    def view(position: int) -> NDArray[np.uint8]:
        random = np.random.default_rng((schedule.seed, 1, position))
        data = photos[order[position]].path.read_bytes()
        return training_view(data, views.preprocessing, views.augmentation, random)

    threads = ThreadPoolExecutor(_DECODERS)

    def start(batch: int) -> tuple[list[Future[NDArray[np.uint8]]], list[int]]:
        positions = range(batch * schedule.batch_size, (batch + 1) * schedule.batch_size)
        labels = [photos[order[position]].label for position in positions]
        coming = [threads.submit(view, position) for position in positions]
        return coming, [UNLABELLED if label is None else label for label in labels]

    try:
        started = (start(batch) for batch in range(first, last))
        ahead = deque(islice(started, _BATCHES_AHEAD))
        while ahead:
            pixels, labels = ahead.popleft()
            ahead.extend(islice(started, 1))
            yield np.stack([future.result() for future in pixels]), np.array(labels, np.int32)
    finally:
        threads.shutdown(cancel_futures=True)


def _order(count: int, schedule: Schedule, last: int) -> list[int]:
    """Return which photo is at each position of a run: in each epoch all, except for an incomplete batch."""
    per_epoch = count // schedule.batch_size
    epochs = [
        np.random.default_rng((schedule.seed, epoch)).permutation(count)[: per_epoch * schedule.batch_size]
        for epoch in range(math.ceil(last / per_epoch))
    ]
    return [int(index) for epoch in epochs for index in epoch]


def _step_function(model: tf_keras.Model, loss: LossFunction, optimizer: Any) -> Any:
    @tf.function
    def step(views: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(views, labels)
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return value

    return step


def _take_out(start: Sequence[Any], share: float, variables: Sequence[Any]) -> None:
    """Remove the starting values from the variables' averages, of which they are the given share.

    This way even a few steps count in full: Kingma and Ba, "Adam", 2015, correct their averages likewise.
    """
    for before, variable in zip(start, variables, strict=True):
        variable.assign((variable - share * before) / (1 - share))


def _warm_up_and_cosine(peak: float, steps: int) -> tf_keras.optimizers.schedules.LearningRateSchedule:
    warm_up = min(WARM_UP_STEPS, steps // 2)
    return tf_keras.optimizers.schedules.CosineDecay(
        0.0 if warm_up else peak, max(steps - warm_up, 1), warmup_target=peak, warmup_steps=warm_up
    )


def _other_run(folder: Path) -> BuildError:
    return BuildError(
        f"{folder} holds the checkpoints of a run with other options or photos; remove it, or name"
        " another folder (all and quantize: --run, train: --out)"
    )


@contextmanager
def _resume_note(manager: Any) -> Iterator[None]:
    """Add a note to an interruption that training can resume, if there is a checkpoint."""
    try:
        yield
    except KeyboardInterrupt as error:
        if manager.latest_checkpoint:
            error.add_note("training resumes from its last checkpoint when started again")
        raise


def _refuse_divergence(loss: float, done: int) -> None:
    if not math.isfinite(loss):
        raise BuildError(f"after {done} steps the loss is {loss}; use a lower learning rate")


def _save(manager: Any, done: int) -> None:
    try:
        manager.save(done)
    except tf.errors.OpError as error:
        reason = " ".join(error.message.split())
        raise BuildError(f"a checkpoint can't be written to {manager.directory}: {reason}") from None


def _restore(checkpoint: Any, folder: Path) -> Any:
    """Restore the last checkpoint, if there is one, and return the manager that saves the next ones."""
    checkpoints = folder / "checkpoints"
    damaged = f"is damaged; remove {folder} to train anew"
    try:
        manager = tf.train.CheckpointManager(checkpoint, str(checkpoints), max_to_keep=1)
    except ValueError:  # The file that names the last checkpoint is empty.
        raise BuildError(f"{checkpoints / 'checkpoint'} {damaged}") from None
    if manager.latest_checkpoint:
        try:
            checkpoint.restore(manager.latest_checkpoint).assert_consumed()
        except (tf.errors.OpError, AssertionError, LookupError, ValueError):
            raise BuildError(f"the checkpoint {manager.latest_checkpoint} {damaged}") from None
        tqdm.write(f"resuming from {manager.latest_checkpoint}")
    return manager
