import json
import math
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from build.errors import BuildError
from build.network.weights import Network
from build.photos.augmentation import MILD
from build.photos.data import PhotoSet
from build.training import loop
from build.training.loop import (
    EMA_MOMENTUM,
    UNLABELLED,
    Views,
    batches,
    claim,
    refuse_other_run,
    run_steps,
    steps_of,
)
from build.training.schedule import Schedule
from tests.build.conftest import CLASSES, SIZE
from tests.build.interruptions import interrupt, watch_steps

SCHEDULE = Schedule(epochs=2, batch_size=8, learning_rate=1e-2)
STEPS = 6


@pytest.fixture(scope="module")
def views(crops: PhotoSet, start: Network) -> Views:
    return Views(crops.photos[:24], start.preprocessing, MILD)


def student() -> tf_keras.Model:
    """A small reproducible network that learns quickly."""
    tf_keras.utils.set_random_seed(0)
    layers = [
        tf_keras.Input((SIZE, SIZE, 3)),
        tf_keras.layers.Rescaling(1 / 255),
        tf_keras.layers.Conv2D(8, 3, 4, activation="relu"),
        tf_keras.layers.GlobalAveragePooling2D(),
        tf_keras.layers.Dense(len(CLASSES)),
    ]
    return tf_keras.Sequential(layers)


def train(views: Views, folder: Path) -> tuple[list[np.ndarray], float]:
    """Train the student; return its weights and the seconds that training reports."""
    model = student()

    def loss(pixels: Any, labels: Any) -> Any:
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(pixels)))

    seconds = run_steps("train", model, loss, views, SCHEDULE, folder)
    return model.get_weights(), seconds


def train_interrupted(views: Views, folder: Path, after: int) -> None:
    """Train the student until an interruption after so many steps."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt(after, patch)
        with pytest.raises(KeyboardInterrupt):
            train(views, folder)


def equal(some: list[np.ndarray], others: list[np.ndarray]) -> bool:
    return all((one == other).all() for one, other in zip(some, others, strict=True))


@pytest.fixture(scope="module")
def whole(views: Views, tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """The weights of a run that is not interrupted."""
    weights, _ = train(views, tmp_path_factory.mktemp("whole"))
    assert not equal(weights, student().get_weights())
    return weights


@contextmanager
def no_larger_files_than(size: int) -> Iterator[None]:
    """Limit the size of files, so that writing fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("interruptions", "rest"),
    [([1], [0, 1, 2, 3, 4, 5]), ([3], [2, 3, 4, 5]), ([5], [4, 5]), ([3, 3], [4, 5])],
    ids=["before the first checkpoint", "once", "late", "twice"],
)
def test_a_resumed_run_ends_with_the_same_weights(
    whole: list[np.ndarray],
    views: Views,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruptions: list[int],
    rest: list[int],
) -> None:
    monkeypatch.setattr(loop, "STEPS_PER_CHECKPOINT", 2)
    for after in interruptions:
        train_interrupted(views, tmp_path, after)
    steps = watch_steps(monkeypatch)
    weights, _ = train(views, tmp_path)
    assert steps == rest
    assert equal(weights, whole)


def test_a_finished_run_is_not_repeated(
    views: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, seconds = train(views, tmp_path)
    assert seconds > 0
    assert "resuming from" not in capsys.readouterr().out
    steps = watch_steps(monkeypatch)
    again, same = train(views, tmp_path)
    assert steps == []
    assert equal(again, weights)
    assert same == seconds
    assert f"resuming from {tmp_path}/checkpoints/ckpt-{STEPS}" in capsys.readouterr().out


def test_the_rate_rises_and_falls_and_weights_are_averaged(views: Views, tmp_path: Path) -> None:
    layers = [tf_keras.Input((SIZE, SIZE, 3)), tf_keras.layers.Dense(1, use_bias=False)]
    model = tf_keras.Sequential(layers)
    model.set_weights([np.ones((3, 1), np.float32)])
    kernel = model.layers[-1].kernel
    # The gradient is always 1, so that each step of Adam is as long as the rate.
    run_steps("train", model, lambda _pixels, _labels: tf.reduce_sum(kernel), views, SCHEDULE, tmp_path)
    value = average = 0.0
    warm_up = STEPS // 2
    for step in range(STEPS):
        rising = step / warm_up
        falling = (1 + math.cos(math.pi * (step - warm_up) / (STEPS - warm_up))) / 2
        value -= SCHEDULE.learning_rate * min(rising, falling if step >= warm_up else 1)
        average = EMA_MOMENTUM * average + (1 - EMA_MOMENTUM) * value
    # The average is over the steps only, without the initial weights.
    average /= 1 - EMA_MOMENTUM**STEPS
    assert average < -5e-3
    np.testing.assert_allclose(model.get_weights()[0] - 1, average, rtol=1e-3)


@pytest.mark.parametrize("suffix", [".data-00000-of-00001", ".index"])
@pytest.mark.parametrize("is_there", [True, False], ids=["truncated", "missing"])
def test_a_damaged_checkpoint_is_refused(
    views: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, is_there: bool
) -> None:
    monkeypatch.setattr(loop, "STEPS_PER_CHECKPOINT", 2)
    train_interrupted(views, tmp_path, 3)
    (file,) = (tmp_path / "checkpoints").glob(f"*{suffix}")
    content = file.read_bytes()
    file.unlink()
    if is_there:
        file.write_bytes(content[: len(content) // 2])
    with pytest.raises(BuildError, match=rf"ckpt-2 is damaged; remove {tmp_path} to train anew") as caught:
        train(views, tmp_path)
    assert "\n" not in str(caught.value)


def test_an_empty_record_of_the_last_checkpoint_is_refused(views: Views, tmp_path: Path) -> None:
    train(views, tmp_path)
    (tmp_path / "checkpoints" / "checkpoint").write_bytes(b"")
    with pytest.raises(BuildError, match=rf"checkpoint is damaged; remove {tmp_path} to train anew"):
        train(views, tmp_path)


def test_the_checkpoint_of_another_network_is_refused(views: Views, tmp_path: Path) -> None:
    train(views, tmp_path)
    model = tf_keras.Sequential([tf_keras.Input((SIZE, SIZE, 3)), tf_keras.layers.Dense(1)])
    with pytest.raises(BuildError, match=r"damaged; remove .* to train anew"):
        run_steps("train", model, lambda pixels, _: tf.reduce_mean(model(pixels)), views, SCHEDULE, tmp_path)


def test_a_full_disk_ends_training_but_keeps_the_last_checkpoint(
    whole: list[np.ndarray], views: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "STEPS_PER_CHECKPOINT", 2)
    train_interrupted(views, tmp_path, 3)
    message = rf"a checkpoint can't be written to {tmp_path}/checkpoints: .*File too large"
    with no_larger_files_than(1000), pytest.raises(BuildError, match=message) as caught:
        train(views, tmp_path)
    assert "\n" not in str(caught.value)
    steps = watch_steps(monkeypatch)
    weights, _ = train(views, tmp_path)
    assert steps == [2, 3, 4, 5]
    assert equal(weights, whole)


def test_batches_depend_only_on_the_seed_and_the_position(views: Views) -> None:
    every = list(batches(views, SCHEDULE, 0, STEPS))
    assert len(every) == STEPS
    for pixels, labels in every:
        assert (pixels.shape, pixels.dtype) == ((8, SIZE, SIZE, 3), np.uint8)
        assert labels.dtype == np.int32
    for (pixels, labels), (again, same) in zip(every[4:], batches(views, SCHEDULE, 4, STEPS), strict=True):
        np.testing.assert_array_equal(pixels, again)
        np.testing.assert_array_equal(labels, same)
    ((other, _),) = batches(views, replace(SCHEDULE, seed=1), 0, 1)
    assert (other != every[0][0]).any()


def order(views: Views, schedule: Schedule) -> list[list[int]]:
    """The labels of two epochs of three batches each, in their order."""
    labels = [known for _, known in batches(views, schedule, 0, STEPS)]
    return [np.concatenate(epoch).tolist() for epoch in (labels[:3], labels[3:])]


def test_each_epoch_shows_every_photo_once_in_another_order(views: Views) -> None:
    # Every photo has a label of its own, which identifies it.
    numbered = replace(
        views, photos=[replace(photo, label=number) for number, photo in enumerate(views.photos)]
    )
    first, second = order(numbered, SCHEDULE)
    assert sorted(first) == sorted(second) == list(range(24))
    assert first != second
    # An incomplete batch is left out, with different photos in each epoch.
    first, second = order(numbered, replace(SCHEDULE, batch_size=7))
    assert len(set(first)) == len(set(second)) == 21
    assert set(first) != set(second)


def test_a_photo_has_its_label_or_none(views: Views, crops: PhotoSet) -> None:
    some = replace(views, photos=[replace(crops.photos[0], label=3), replace(crops.photos[1], label=None)])
    ((_, labels),) = batches(some, replace(SCHEDULE, batch_size=2), 0, 1)
    assert sorted(labels.tolist()) == [UNLABELLED, 3]


def test_an_epoch_has_as_many_steps_as_full_batches(views: Views) -> None:
    assert steps_of(views.photos, SCHEDULE) == STEPS
    assert steps_of(views.photos, replace(SCHEDULE, batch_size=7)) == STEPS
    with pytest.raises(BuildError, match="24 photos are too few to train on in batches of 25"):
        steps_of(views.photos, replace(SCHEDULE, batch_size=25))


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mine"
    claim(folder, {"seed": 0, "photos": [("a", 1)]})
    assert json.loads((folder / "run.json").read_text()) == {"seed": 0, "photos": [["a", 1]]}
    claim(folder, {"seed": 0, "photos": [("a", 1)]})
    before = (folder / "run.json").read_bytes()
    with pytest.raises(BuildError, match="mine holds the checkpoints of a run with other options") as caught:
        claim(folder, {"seed": 1, "photos": [("a", 1)]})
    assert "\n" not in str(caught.value)
    assert (folder / "run.json").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["run.json"]


@pytest.mark.parametrize("damaged", [b"", b'{"seed": 0, "pho', b"[1]", b"\xff"])
def test_a_damaged_record_counts_as_that_of_another_run(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "run.json").write_bytes(damaged)
    with pytest.raises(BuildError, match="holds the checkpoints of a run with other options"):
        refuse_other_run(tmp_path, {"seed": 0})


def test_training_that_diverges_ends_with_an_error(views: Views, tmp_path: Path) -> None:
    model = student()
    with pytest.raises(BuildError, match="after 6 steps the loss is nan; use a lower learning rate"):
        run_steps(
            "train",
            model,
            lambda pixels, _: tf.reduce_mean(model(pixels)) * math.nan,
            views,
            SCHEDULE,
            tmp_path,
        )
    assert list(tmp_path.iterdir()) == []


def test_operations_run_one_after_another() -> None:
    """Otherwise a busy machine may train to other weights, too rarely for the tests above to notice."""
    assert os.environ["TF_NUM_INTEROP_THREADS"] == "1"
