import hashlib
import json
import math
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from build import training
from build.data import Photo, PhotoSet, is_held_out, labelled_photos
from build.errors import BuildError
from build.model import get_weights, network, set_weights, with_pixel_input
from build.schedule import Schedule
from build.training import UNLABELLED, train, train_network
from build.weights import Network, load_network, weights_digest
from service.bundle import SEEN_DIGITS
from service.inference.labelled import image_set
from tests.build.conftest import CLASSES, SIZE

SCHEDULE = Schedule(epochs=2, batch_size=8, learning_rate=1e-3)
STEPS = 6


@dataclass(frozen=True)
class Run:
    """A training that went through without an interruption, and what was seen of it."""

    crops: PhotoSet
    folder: Path
    network: Network
    teacher: tf_keras.Model
    batched: frozenset[str]


@pytest.fixture(scope="module")
def crops(training_folder: Path, start: Network) -> PhotoSet:
    """24 photos to train on, two held out."""
    every = labelled_photos(training_folder, start.classes).photos
    held_out = [photo for photo in every if is_held_out(photo)]
    trained_on = [photo for photo in every if not is_held_out(photo)]
    return PhotoSet("crops", (*trained_on[::4][:24], *held_out[:2]))


@pytest.fixture(scope="module")
def run(crops: PhotoSet, start: Network, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run") / "whole"
    batched: set[str] = set()
    teachers: list[tf_keras.Model] = []
    view, step_function = training.training_view, training._step_function

    def watched_view(data: bytes, *arguments: Any) -> np.ndarray:
        batched.add(hashlib.sha256(data).hexdigest())
        return view(data, *arguments)

    def watched_step_function(student: Any, teacher: Any, *arguments: Any) -> Any:
        teachers.append(teacher)
        return step_function(student, teacher, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "training_view", watched_view)
        patch.setattr(training, "_step_function", watched_step_function)
        result = train_network(start, [crops], SCHEDULE, folder, "python -m build train")
    return Run(crops, folder, result, teachers[0], frozenset(batched))


def interrupt(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next training be interrupted after so many steps."""
    batches = training._batches

    def some(*arguments: Any) -> Iterator[Any]:
        yield from islice(batches(*arguments), after)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_batches", some)


def test_an_interrupted_run_goes_on_to_the_very_same_weights(
    run: Run, start: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "STEPS_PER_CHECKPOINT", 2)
    arguments = (start.weights, run.crops.photos, start.preprocessing, SCHEDULE, tmp_path)
    with monkeypatch.context() as patch:
        interrupt(3, patch)  # One step after a checkpoint: that one is done again.
        with pytest.raises(KeyboardInterrupt):
            train(*arguments)
    steps: list[int] = []
    batches = training._batches

    def watched(photos: Any, preprocessing: Any, schedule: Any, first: int, last: int) -> Iterator[Any]:
        steps.extend(range(first, last))
        return batches(photos, preprocessing, schedule, first, last)

    monkeypatch.setattr(training, "_batches", watched)
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


def test_what_is_left_says_what_was_done(run: Run, start: Network) -> None:
    left = load_network(str(run.folder))
    assert weights_digest(left.weights) == weights_digest(run.network.weights)
    record = left.training
    assert record is not None
    assert record == run.network.training
    assert (record.steps, record.batch_size, record.learning_rate) == (STEPS, 8, 1e-3)
    assert record.started_from == "small.h5"
    assert record.started_from_sha256 == weights_digest(start.weights)
    digests = [photo.sha256 for photo in run.crops.photos]
    assert record.images == (image_set("crops", digests),)
    assert left.seen_images == {digest[:SEEN_DIGITS] for digest in digests}
    assert record.seconds > 0
    assert set(record.losses) == {
        f"{loss}_{when}" for loss in ("kl_nats", "cross_entropy_nats") for when in ("before", "after")
    }
    assert all(math.isfinite(loss) and loss > 0 for loss in record.losses.values())


@pytest.mark.parametrize(
    "change",
    [
        lambda n, p, s: (n, p, replace(s, seed=1)),
        lambda n, p, s: (n, p[1:], s),
        lambda n, p, s: (n, (replace(p[0], label=None), *p[1:]), s),
        lambda n, p, s: (replace(n, weights=n.weights | {"top_conv": _halved(n, "top_conv")}), p, s),
    ],
    ids=["schedule", "photos", "labels", "weights"],
)
def test_another_runs_folder_is_refused(
    run: Run, start: Network, change: Callable[..., tuple[Network, tuple[Photo, ...], Schedule]]
) -> None:
    before = (run.folder / "run.json").read_bytes()
    other, photos, schedule = change(start, run.crops.photos, SCHEDULE)
    with pytest.raises(BuildError, match="whole holds the checkpoints of a run with other options"):
        train(other.weights, photos, other.preprocessing, schedule, run.folder)
    assert (run.folder / "run.json").read_bytes() == before


def _halved(of: Network, name: str) -> Any:
    return replace(of.weights[name], kernel=of.weights[name].kernel / 2)


def test_a_damaged_checkpoint_says_so(run: Run, start: Network, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    (folder / "checkpoints").mkdir(parents=True)
    for file in (run.folder / "checkpoints").iterdir():
        content = file.read_bytes()
        cut = len(content) // 2 if ".data-" in file.name else len(content)
        (folder / "checkpoints" / file.name).write_bytes(content[:cut])
    with pytest.raises(BuildError, match=r"damaged; remove .* to train anew") as caught:
        train(start.weights, run.crops.photos, start.preprocessing, SCHEDULE, folder)
    assert "\n" not in str(caught.value)


def test_a_full_disk_ends_training_in_one_line(tmp_path: Path) -> None:
    checkpoint = tf.train.Checkpoint(weights=tf.Variable(tf.zeros(1_000_000)))
    manager = tf.train.CheckpointManager(checkpoint, str(tmp_path), max_to_keep=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may be as large as the checkpoint: what a write says then is what it says on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(BuildError, match=r"a checkpoint can't be written to .*File too large") as caught:
            training._save(manager, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)


def test_too_few_photos_are_refused(crops: PhotoSet, start: Network, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="26 photos are too few to train on in batches of 25"):
        train(start.weights, crops.photos, start.preprocessing, replace(SCHEDULE, batch_size=25), tmp_path)


def test_labels_count_where_they_are_and_only_there(start: Network) -> None:
    teacher, student = (with_pixel_input(network(SIZE, len(CLASSES))) for _ in range(2))
    for model in (teacher, student):
        set_weights(model.layers[-1], start.weights)
    # Steps of no length: what the loss is does not change from one to the next.
    optimizer = tf_keras.optimizers.SGD(0.0)
    step = training._step_function(student, teacher, optimizer, 0.25)
    views = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.float32)
    logits = tf.nn.log_softmax(student(views)).numpy()

    def loss(*labels: int) -> float:
        return float(step(tf.constant(views), tf.constant(labels, tf.int32)))

    target = (np.exp(logits) + np.exp(tf.nn.log_softmax(teacher(views[:, :, ::-1])).numpy())) / 2
    distillation = (target * (np.log(target) - logits)).sum(axis=1).mean()
    assert loss(UNLABELLED, UNLABELLED, UNLABELLED) == pytest.approx(distillation, rel=1e-3)
    assert loss(2, UNLABELLED, 0) == pytest.approx(
        distillation - 0.25 * (logits[0, 2] + logits[2, 0]) / 3, rel=1e-3
    )


def test_the_views_depend_on_nothing_but_the_seed(crops: PhotoSet, start: Network) -> None:
    def views(schedule: Schedule, first: int, last: int) -> list[tuple[np.ndarray, np.ndarray]]:
        batches = training._batches(crops.photos[:24], start.preprocessing, schedule, first, last)
        return [(pixels.numpy(), labels.numpy()) for pixels, labels in batches]

    whole = views(SCHEDULE, 0, STEPS)
    assert len(whole) == STEPS
    for (pixels, labels), (again, same) in zip(whole[4:], views(SCHEDULE, 4, STEPS), strict=True):
        np.testing.assert_array_equal(pixels, again)
        np.testing.assert_array_equal(labels, same)
    other = views(replace(SCHEDULE, seed=1), 0, 1)
    assert (other[0][0] != whole[0][0]).any()
    # Each epoch shows every photo once, in another order.
    first, second = (np.concatenate([labels for _, labels in part]) for part in (whole[:3], whole[3:]))
    assert sorted(first) == sorted(second) == sorted(photo.label for photo in crops.photos[:24])
    assert first.tolist() != second.tolist()


def test_the_record_of_a_run_is_what_its_outcome_depends_on(run: Run) -> None:
    record = json.loads((run.folder / "run.json").read_text())
    assert set(record) == {"schedule", "started_from_sha256", "preprocessing", "photos"}
