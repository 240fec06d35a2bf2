import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from build.errors import BuildError
from build.network.model import LayerWeights, network, set_weights, with_pixel_input
from build.network.weights import Network, load_network, weights_digest
from build.photos.augmentation import STRONG
from build.photos.splits import Splits, split_folder
from build.training import temperature, transfer
from build.training.fine_tuning import inner
from build.training.loop import Views
from build.training.schedule import Schedule
from build.training.transfer import HEAD_VIEWS, _features, _fit_head, _logits, claim_classes, train_classes
from service.bundle.folder import SEEN_DIGITS
from service.inference.classifier import softmax
from service.measuring.evaluation import expected_calibration_error
from service.measuring.labelled import image_set
from tests.build.conftest import CLASSES
from tests.build.interruptions import copy_after_step, watch_steps

SCHEDULE = Schedule(epochs=1, batch_size=16, learning_rate=1e-4)
COMMAND = "python -m build all"


@pytest.fixture(scope="module")
def splits(training_folder: Path, start: Network) -> Splits:
    """Splits that use the test photos as val, because they are more."""
    splits = split_folder(training_folder, start.preprocessing)
    return replace(splits, val=splits.test)


@pytest.fixture(scope="module")
def other(start: Network) -> Network:
    """A network of seven other classes, whose head gives all of them the same logit."""
    kernel = np.ones((1280, 7), np.float32)
    head = LayerWeights(kernel, np.ones(7, np.float32))
    return replace(start, weights=start.weights | {"predictions": head})


@dataclass(frozen=True)
class Run:
    """A training that was not interrupted.

    `interrupted`: a copy of its folder after two steps.
    """

    network: Network
    folder: Path
    interrupted: Path


@pytest.fixture(scope="module")
def run(other: Network, splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run") / "whole"
    interrupted = folder.with_name("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(temperature, "LEAST_PHOTOS", len(splits.val.photos))
        copy_after_step(2, folder, interrupted, patch)
        return Run(train_classes(other, splits, SCHEDULE, folder, COMMAND), folder, interrupted)


def test_the_new_head_alone_is_better_than_chance(run: Run) -> None:
    training = run.network.training
    assert training is not None
    assert len(CLASSES) == 4  # Three of four are wrong by chance.
    assert training.losses["error_ratio_before"] < 0.4
    assert training.losses["cross_entropy_nats_before"] < np.log(4)
    assert np.isfinite(training.losses["cross_entropy_nats_after"])
    assert training.losses["error_ratio_after"] < 0.6


def test_training_changes_every_layer(run: Run, other: Network) -> None:
    weights, training = run.network.weights, run.network.training
    assert training is not None
    assert training.temperature is not None
    assert weights["predictions"].kernel.shape == (1280, 4)
    for name, layer in weights.items():
        if name != "predictions":
            assert (layer.kernel != other.weights[name].kernel).any(), name
    with np.load(run.folder / "head.npz") as head:
        learned = training.temperature.value * weights["predictions"].kernel
        assert not np.allclose(learned, head["kernel"], rtol=1e-5)
        np.testing.assert_allclose(learned, head["kernel"], atol=0.01)


def test_the_run_folder_records_the_training(run: Run, other: Network, splits: Splits) -> None:
    loaded = load_network(str(run.folder))
    assert weights_digest(loaded.weights) == weights_digest(run.network.weights)
    assert loaded.classes.labels == CLASSES
    assert loaded.training == run.network.training
    training = loaded.training
    assert training is not None
    assert training.command == COMMAND
    assert training.started_from_sha256 == weights_digest(other.weights)
    digests = [photo.sha256 for photo in splits.train.photos]
    assert training.images == (image_set("training", digests),)
    assert training.steps == len(digests) // 16
    fitted = [photo.sha256 for photo in splits.val.photos]
    assert training.temperature is not None
    assert training.temperature.images == image_set(splits.val.name, fitted)
    assert loaded.seen_images == {digest[:SEEN_DIGITS] for digest in (*digests, *fitted)}


def test_the_logits_are_calibrated_on_the_watched_photos(
    run: Run, other: Network, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, preprocessing = splits.val.photos, other.preprocessing
    monkeypatch.setattr(temperature, "LEAST_PHOTOS", len(photos))
    model = with_pixel_input(network(preprocessing.height, 4))
    set_weights(inner(model), run.network.weights)
    logits = _logits(model, photos, preprocessing)
    labels = np.array([photo.label for photo in photos])
    assert temperature.fit_temperature(logits, labels) == pytest.approx(1, abs=1e-3)
    training = run.network.training
    assert training is not None
    assert training.temperature is not None
    assert training.temperature.value != 1
    error = expected_calibration_error(softmax(logits), labels)
    assert training.temperature.ece_after == pytest.approx(error, abs=1e-3)


def test_with_too_few_watched_photos_the_logits_are_not_scaled(
    run: Run, other: Network, splits: Splits, tmp_path: Path
) -> None:
    # It resumes from the last checkpoint of the whole run, so that no step is left to do.
    shutil.copytree(run.folder, tmp_path / "run")
    learned = train_classes(other, splits, SCHEDULE, tmp_path / "run", COMMAND)
    training = learned.training
    assert training is not None
    assert run.network.training is not None
    assert training.temperature is None
    assert training.losses == run.network.training.losses
    assert learned.seen_images == {photo.sha256[:SEEN_DIGITS] for photo in splits.train.photos}
    fitted = run.network.training.temperature
    assert fitted is not None
    head, scaled = learned.weights["predictions"], run.network.weights["predictions"]
    np.testing.assert_allclose(scaled.kernel * fitted.value, head.kernel, rtol=1e-5)
    np.testing.assert_allclose(scaled.bias * fitted.value, head.bias, rtol=1e-5)


def test_a_resumed_run_ends_with_the_same_weights(
    run: Run, other: Network, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The head was complete before the interruption.
    assert sorted(path.name for path in run.interrupted.iterdir()) == ["checkpoints", "head.npz", "run.json"]

    def fail(*_: object) -> None:
        raise AssertionError("the head is there")

    monkeypatch.setattr(transfer, "_features", fail)
    monkeypatch.setattr(temperature, "LEAST_PHOTOS", len(splits.val.photos))
    steps = watch_steps(monkeypatch)
    resumed = train_classes(other, splits, SCHEDULE, run.interrupted, COMMAND)
    assert steps == list(range(2, len(splits.train.photos) // 16))
    assert weights_digest(resumed.weights) == weights_digest(run.network.weights)
    assert run.network.training is not None
    assert resumed.training is not None
    assert resumed.training.losses == run.network.training.losses
    assert resumed.training.temperature == run.network.training.temperature


def test_a_damaged_head_is_refused(run: Run, other: Network, splits: Splits, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes((run.folder / "run.json").read_bytes())
    content = (run.folder / "head.npz").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"nothing"):
        (tmp_path / "head.npz").write_bytes(damaged)
        with pytest.raises(BuildError, match=r"head.npz is damaged; remove .* to train anew") as caught:
            train_classes(other, splits, SCHEDULE, tmp_path, COMMAND)
        assert "\n" not in str(caught.value)


def test_the_folder_of_another_run_is_refused(run: Run, start: Network, splits: Splits) -> None:
    with pytest.raises(BuildError, match="whole holds the checkpoints of a run with other options"):
        train_classes(start, splits, SCHEDULE, run.folder, COMMAND)


def test_a_folder_of_a_run_with_other_watched_photos_is_refused(
    run: Run, other: Network, splits: Splits
) -> None:
    """Its temperature, and so its weights, would differ."""
    fewer = replace(splits, val=replace(splits.val, photos=splits.val.photos[1:]))
    with pytest.raises(BuildError, match="a run with other options or photos"):
        claim_classes(other, fewer, SCHEDULE, run.folder)


def test_few_photos_are_enough_for_small_batches(other: Network, splits: Splits) -> None:
    photos = splits.train.photos[::9][:10]
    views = Views(photos, other.preprocessing, STRONG)
    features, labels = _features(other.weights, views, replace(SCHEDULE, batch_size=5))
    assert features.shape == (10 * HEAD_VIEWS, 1280)
    assert sorted(labels) == sorted(HEAD_VIEWS * [photo.label for photo in photos])


def test_fitting_the_head_is_reproducible() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200).astype(np.int32)
    features = random.normal(0, 1, (200, 8)).astype(np.float32)
    features[np.arange(200), labels] += 4
    kernel, bias = _fit_head(features, labels, 3)
    assert ((features @ kernel + bias).argmax(axis=1) == labels).mean() > 0.9
    again, same = _fit_head(features, labels, 3)
    assert (again == kernel).all()
    assert (same == bias).all()
