"""Quantization-aware training: the int8 network learns to answer like the float one.

It is distillation, so photos need no labels: KL at a temperature (Hinton, Vinyals, Dean, "Distilling the
Knowledge in a Neural Network", 2015) plus the difference of the pooled features.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from build.network.model import Weights, network, normalise, set_weights
from build.network.weights import weights_digest
from build.photos.augmentation import MILD
from build.photos.data import Photo
from build.quantization.fake_quantization import WRAPPED, fake_quantized_network, trained_values
from build.quantization.int8 import Int8Network
from build.quantization.recipe import Pruning, set_keys
from build.training.distillation import divergence, held_out_losses
from build.training.fine_tuning import Run, before_and_after, view_record
from build.training.loop import (
    BeforeStep,
    LossFunction,
    Views,
    claim,
    nothing,
    refuse_other_run,
    run_steps,
    steps_of,
)
from build.training.pruning import GradualPruning, PruningPlan, unpruned_network
from build.training.schedule import Schedule
from service.bundle.manifest import Preprocessing

TEMPERATURE = 2.0
_FEATURES, _LOGITS = "avg_pool", "predictions"


@dataclass(frozen=True, kw_only=True)
class QuantizedTraining(Run):
    """The result of quantization-aware training.

    `model` is the fake-quantized network, on normalised pixels; `values` are its final values. `losses`: the
    mean KL to the float network in nats, and the mean cross-entropy of the labelled photos.
    """

    model: tf_keras.Model
    values: Int8Network


def train_quantized(
    teacher: Weights,
    start: Int8Network,
    photos: Sequence[Photo],
    validation: Sequence[Photo],
    preprocessing: Preprocessing,
    schedule: Schedule,
    range_rate: float,
    folder: Path,
    pruning: PruningPlan | None = None,
) -> QuantizedTraining:
    """Train an int8 network towards the float one with weights `teacher`, and prune it if `pruning` is given.

    Training resumes from the last checkpoint in `folder`. The photos need no labels. The losses are measured
    on `validation`, which are not trained on.

    Raises:
        BuildError: there are too few photos, or `folder` holds the checkpoints of another run, or they
            can't be read or written.
    """
    steps = steps_of(photos, schedule)
    views = Views(photos, preprocessing, MILD)
    quantization = {
        "started_from_sha256": weights_digest(teacher),
        "weights": weights_digest(start.weights),
        "ranges": {name: asdict(range_) for name, range_ in start.ranges.items()},
        "grids": {name: (grid.bits, grid.step.tolist()) for name, grid in start.grids.items()},
    }
    claim(folder, _known(views, schedule, range_rate, pruning.how if pruning else None) | quantization)
    size, classes = preprocessing.height, teacher["predictions"].bias.size
    float_network = network(size, classes)
    set_weights(float_network, teacher)
    model = fake_quantized_network(start, size, range_rate)
    target = _with_features(float_network, _FEATURES, _LOGITS)
    target.trainable = False
    student = _with_features(model, WRAPPED + _FEATURES, WRAPPED + _LOGITS)
    loss = _loss(student, target)
    before_step: BeforeStep = nothing
    if pruning:
        before_step = gradual = GradualPruning(model, start.grids, pruning, steps)
        if pruning.how.teacher:
            whole = _with_features(unpruned_network(model, size, classes), _FEATURES, _LOGITS)
            loss = _loss_with_teacher(student, target, whole, gradual.is_settled)

    def losses() -> dict[str, float]:
        return held_out_losses(
            lambda batch: student(normalise(batch))[1],
            lambda batch: tf.nn.softmax(target(normalise(batch))[1]),
            validation,
            preprocessing,
        )

    before = losses()
    seconds = run_steps("quantization-aware training", student, loss, views, schedule, folder, before_step)
    values = trained_values(model, size, classes)
    return QuantizedTraining(
        model=model, values=values, steps=steps, seconds=seconds, losses=before_and_after(before, losses())
    )


def check_folder(
    photos: Sequence[Photo],
    preprocessing: Preprocessing,
    schedule: Schedule,
    range_rate: float,
    pruning: Pruning | None,
    folder: Path,
) -> None:
    """Check that `folder` can be used for such a training, before the weights that it starts from are known.

    Raises:
        BuildError: it holds the checkpoints of a run with other options or photos.
    """
    refuse_other_run(folder, _known(Views(photos, preprocessing, MILD), schedule, range_rate, pruning))


def _known(views: Views, schedule: Schedule, range_rate: float, pruning: Pruning | None) -> dict[str, Any]:
    """Return what the outcome depends on, except the weights, ranges and grids that training starts from."""
    how = set_keys(pruning.model_dump(mode="json")) if pruning else None
    return view_record(views, schedule) | {"range_rate": range_rate, "pruning": how}


def _loss(student: tf_keras.Model, target: tf_keras.Model) -> LossFunction:
    """Return the loss; both models map normalised pixels to features and logits."""

    def loss(batch: Any, _labels: Any) -> Any:
        pixels = normalise(batch)
        return _apart(student(pixels, training=True), target(pixels))

    return loss


def _loss_with_teacher(
    student: tf_keras.Model, target: tf_keras.Model, whole: tf_keras.Model, is_settled: Any
) -> LossFunction:
    """Return the loss of `_loss`; once pruning is settled, the unpruned network learns too, and teaches."""

    def loss(batch: Any, _labels: Any) -> Any:
        pixels = normalise(batch)
        wanted = target(pixels)
        own = student(pixels, training=True)

        def taught() -> Any:
            teacher = whole(pixels)
            return _apart(teacher, wanted) + _apart(own, [tf.stop_gradient(x) for x in teacher])

        return _apart(own, wanted) + tf.cond(is_settled, taught, lambda: 0.0)

    return loss


def _apart(own: Sequence[Any], wanted: Sequence[Any]) -> Any:
    """Return how far features and logits are from those that are wanted."""
    (own_features, own_logits), (features, logits) = own, wanted
    soft = divergence(tf.nn.softmax(logits / TEMPERATURE), own_logits / TEMPERATURE)
    apart = tf.reduce_mean(tf.square(own_features - features)) / tf.reduce_mean(tf.square(features))
    return TEMPERATURE**2 * tf.reduce_mean(soft) + apart


def _with_features(model: tf_keras.Model, features: str, logits: str) -> tf_keras.Model:
    return tf_keras.Model(model.input, [model.get_layer(features).output, model.get_layer(logits).output])
