import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from build.errors import BuildError
from build.network.model import get_weights, network, set_weights, with_pixel_input
from build.network.weights import Network, load_network, weights_digest
from build.photos.data import Photo, PhotoSet, is_held_out
from build.training import fine_tuning, loop
from build.training.fine_tuning import train, train_network
from build.training.loop import UNLABELLED
from build.training.schedule import Schedule
from service.bundle.folder import SEEN_DIGITS
from service.measuring.labelled import image_set
from tests.build.conftest import CLASSES, SIZE
from tests.build.interruptions import interrupt, watch_steps

SCHEDULE = Schedule(epochs=2, batch_size=8, learning_rate=1e-3)
STEPS = 6
LABEL_WEIGHT = 0.2


@dataclass(frozen=True)
class Run:
    """A training that was not interrupted, with its teacher and the digests of photos in its batches."""

    crops: PhotoSet
    folder: Path
    network: Network
    teacher: tf_keras.Model
    batched: frozenset[str]


@pytest.fixture(scope="module")
def run(crops: PhotoSet, start: Network, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run") / "whole"
    batched: set[str] = set()
    teachers: list[tf_keras.Model] = []
    view, loss = loop.training_view, fine_tuning._loss

    def watched_view(data: bytes, *arguments: Any) -> np.ndarray:
        batched.add(hashlib.sha256(data).hexdigest())
        return view(data, *arguments)

    def watched_loss(student: Any, teacher: Any, label_weight: float) -> Any:
        teachers.append(teacher)
        return loss(student, teacher, label_weight)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "training_view", watched_view)
        patch.setattr(fine_tuning, "_loss", watched_loss)
        result = train_network(start, [crops], SCHEDULE, LABEL_WEIGHT, folder, "python -m build train")
    return Run(crops, folder, result, teachers[0], frozenset(batched))


def test_a_resumed_run_ends_with_the_same_weights(
    run: Run, start: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "STEPS_PER_CHECKPOINT", 2)
    arguments = (start.weights, run.crops.photos, start.preprocessing, SCHEDULE, LABEL_WEIGHT, tmp_path)
    with monkeypatch.context() as patch:
        interrupt(3, patch)  # One step after a checkpoint, so that this step is repeated.
        with pytest.raises(KeyboardInterrupt):
            train(*arguments)
    steps = watch_steps(monkeypatch)
    trained = train(*arguments)
    assert steps == [2, 3, 4, 5]
    assert weights_digest(trained.weights) == weights_digest(run.network.weights)
    assert run.network.training is not None
    assert trained.losses == run.network.training.losses


def test_training_changes_the_student_and_not_the_teacher(run: Run, start: Network) -> None:
    assert weights_digest(get_weights(run.teacher.layers[-1])) == weights_digest(start.weights)
    changed = [
        name
        for name, layer in start.weights.items()
        if (run.network.weights[name].kernel != layer.kernel).any()
    ]
    assert len(changed) == len(start.weights)
    assert all(np.isfinite(layer.kernel).all() for layer in run.network.weights.values())


def test_held_out_photos_are_in_no_batch(run: Run) -> None:
    held_out = {photo.sha256 for photo in run.crops.photos if is_held_out(photo)}
    assert len(held_out) == 2
    assert run.batched == {photo.sha256 for photo in run.crops.photos} - held_out


def test_the_run_folder_records_the_training(run: Run, start: Network) -> None:
    loaded = load_network(str(run.folder))
    assert weights_digest(loaded.weights) == weights_digest(run.network.weights)
    record = loaded.training
    assert record is not None
    assert record == run.network.training
    assert (record.steps, record.batch_size, record.learning_rate) == (STEPS, 8, 1e-3)
    assert record.started_from == "small.h5"
    assert record.started_from_sha256 == weights_digest(start.weights)
    digests = [photo.sha256 for photo in run.crops.photos]
    assert record.images == (image_set("crops", digests),)
    assert loaded.seen_images == {digest[:SEEN_DIGITS] for digest in digests}
    assert record.seconds > 0
    assert set(record.losses) == {
        f"{loss}_{when}" for loss in ("kl_nats", "cross_entropy_nats") for when in ("before", "after")
    }
    assert all(math.isfinite(loss) and loss > 0 for loss in record.losses.values())


@pytest.mark.parametrize(
    "change",
    [
        lambda n, p, s, w: (n, p, replace(s, seed=1), w),
        lambda n, p, s, w: (n, p[1:], s, w),
        lambda n, p, s, w: (n, (replace(p[0], label=None), *p[1:]), s, w),
        lambda n, p, s, w: (replace(n, weights=n.weights | {"top_conv": _halved(n, "top_conv")}), p, s, w),
        lambda n, p, s, w: (n, p, s, w / 2),
    ],
    ids=["schedule", "photos", "labels", "weights", "label weight"],
)
def test_the_folder_of_another_run_is_refused(
    run: Run, start: Network, change: Callable[..., tuple[Network, tuple[Photo, ...], Schedule, float]]
) -> None:
    before = (run.folder / "run.json").read_bytes()
    other, photos, schedule, label_weight = change(start, run.crops.photos, SCHEDULE, LABEL_WEIGHT)
    with pytest.raises(BuildError, match="whole holds the checkpoints of a run with other options"):
        train(other.weights, photos, other.preprocessing, schedule, label_weight, run.folder)
    assert (run.folder / "run.json").read_bytes() == before


def _halved(of: Network, name: str) -> Any:
    return replace(of.weights[name], kernel=of.weights[name].kernel / 2)


def test_too_few_photos_are_refused(crops: PhotoSet, start: Network, tmp_path: Path) -> None:
    large = replace(SCHEDULE, batch_size=25)
    with pytest.raises(BuildError, match="24 photos are too few to train on in batches of 25"):
        train(start.weights, crops.photos, start.preprocessing, large, LABEL_WEIGHT, tmp_path)
    with pytest.raises(BuildError, match="24 photos are too few to train on: none is held out to measure"):
        train(start.weights, crops.photos[:24], start.preprocessing, SCHEDULE, LABEL_WEIGHT, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_loss_includes_labels_only_of_labelled_photos(start: Network) -> None:
    teacher, student = (with_pixel_input(network(SIZE, len(CLASSES))) for _ in range(2))
    for model in (teacher, student):
        set_weights(model.layers[-1], start.weights)
    loss_of = tf.function(fine_tuning._loss(student, teacher, 0.25))
    views = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.float32)
    logits = tf.nn.log_softmax(student(views)).numpy()

    def loss(*labels: int) -> float:
        return float(loss_of(tf.constant(views), tf.constant(labels, tf.int32)))

    target = (np.exp(logits) + np.exp(tf.nn.log_softmax(teacher(views[:, :, ::-1])).numpy())) / 2
    distillation = (target * (np.log(target) - logits)).sum(axis=1).mean()
    assert loss(UNLABELLED, UNLABELLED, UNLABELLED) == pytest.approx(distillation, rel=1e-3)
    assert loss(2, UNLABELLED, 0) == pytest.approx(
        distillation - 0.25 * (logits[0, 2] + logits[2, 0]) / 3, rel=1e-3
    )


def test_the_record_of_a_run_has_what_its_result_depends_on(run: Run) -> None:
    record = json.loads((run.folder / "run.json").read_text())
    assert set(record) == {
        "schedule",
        "started_from_sha256",
        "preprocessing",
        "augmentation",
        "photos",
        "label_weight",
    }
    assert set(record["augmentation"]) == {"smallest_area", "contrast", "brightness", "colour"}
