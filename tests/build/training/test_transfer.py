from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from build.errors import BuildError
from build.network.model import LayerWeights
from build.network.weights import Network, load_network, weights_digest
from build.photos.augmentation import STRONG
from build.photos.splits import Splits, split_folder
from build.training import transfer
from build.training.loop import Views
from build.training.schedule import Schedule
from build.training.transfer import HEAD_VIEWS, _features, _fit_head, train_classes
from service.bundle.folder import SEEN_DIGITS
from service.measuring.labelled import image_set
from tests.build.conftest import CLASSES
from tests.build.interruptions import keep_as_interrupted, watch_steps

SCHEDULE = Schedule(epochs=1, batch_size=16, learning_rate=1e-4)
COMMAND = "python -m build all"


@pytest.fixture(scope="module")
def splits(training_folder: Path, start: Network) -> Splits:
    """Watched by the test photos, which are more."""
    splits = split_folder(training_folder, start.preprocessing)
    return replace(splits, val=splits.test)


@pytest.fixture(scope="module")
def other(start: Network) -> Network:
    """A network of other classes: seven, of which none is to be told."""
    kernel = np.ones((1280, 7), np.float32)
    head = LayerWeights(kernel, np.ones(7, np.float32))
    return replace(start, weights=start.weights | {"predictions": head})


@dataclass(frozen=True)
class Run:
    """A training that went through without an interruption.

    `interrupted` is what its folder held after two steps.
    """

    network: Network
    folder: Path
    interrupted: Path


@pytest.fixture(scope="module")
def run(other: Network, splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run") / "whole"
    interrupted = folder.with_name("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        keep_as_interrupted(2, folder, interrupted, patch)
        return Run(train_classes(other, splits, SCHEDULE, folder, COMMAND), folder, interrupted)


def test_the_new_head_alone_tells_the_classes(run: Run) -> None:
    training = run.network.training
    assert training is not None
    assert len(CLASSES) == 4  # Three of four are wrong by chance.
    assert training.losses["error_ratio_before"] < 0.4
    assert training.losses["cross_entropy_nats_before"] < np.log(4)
    assert np.isfinite(training.losses["cross_entropy_nats_after"])
    assert training.losses["error_ratio_after"] < 0.6


def test_then_the_whole_network_learns(run: Run, other: Network) -> None:
    weights = run.network.weights
    assert weights["predictions"].kernel.shape == (1280, 4)
    for name, layer in weights.items():
        if name != "predictions":
            assert (layer.kernel != other.weights[name].kernel).any(), name
    with np.load(run.folder / "head.npz") as head:
        assert (weights["predictions"].kernel != head["kernel"]).any()
        np.testing.assert_allclose(weights["predictions"].kernel, head["kernel"], atol=0.01)


def test_what_is_left_says_what_was_done(run: Run, other: Network, splits: Splits) -> None:
    left = load_network(str(run.folder))
    assert weights_digest(left.weights) == weights_digest(run.network.weights)
    assert left.classes.labels == CLASSES
    assert left.training == run.network.training
    training = left.training
    assert training is not None
    assert training.command == COMMAND
    assert training.started_from_sha256 == weights_digest(other.weights)
    digests = [photo.sha256 for photo in splits.train.photos]
    assert training.images == (image_set("training", digests),)
    assert training.steps == len(digests) // 16
    assert left.seen_images == {digest[:SEEN_DIGITS] for digest in digests}


def test_an_interrupted_run_goes_on_to_the_very_same_weights(
    run: Run, other: Network, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The head is there when the whole network is interrupted.
    assert sorted(path.name for path in run.interrupted.iterdir()) == ["checkpoints", "head.npz", "run.json"]

    def again(*_: object) -> None:
        raise AssertionError("the head is there")

    monkeypatch.setattr(transfer, "_features", again)
    steps = watch_steps(monkeypatch)
    resumed = train_classes(other, splits, SCHEDULE, run.interrupted, COMMAND)
    assert steps == list(range(2, len(splits.train.photos) // 16))
    assert weights_digest(resumed.weights) == weights_digest(run.network.weights)
    assert run.network.training is not None
    assert resumed.training is not None
    assert resumed.training.losses == run.network.training.losses


def test_a_damaged_head_says_so(run: Run, other: Network, splits: Splits, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes((run.folder / "run.json").read_bytes())
    content = (run.folder / "head.npz").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"nothing"):
        (tmp_path / "head.npz").write_bytes(damaged)
        with pytest.raises(BuildError, match=r"head.npz is damaged; remove .* to train anew") as caught:
            train_classes(other, splits, SCHEDULE, tmp_path, COMMAND)
        assert "\n" not in str(caught.value)


def test_another_runs_folder_is_refused(run: Run, start: Network, splits: Splits) -> None:
    with pytest.raises(BuildError, match="whole holds the checkpoints of a run with other options"):
        train_classes(start, splits, SCHEDULE, run.folder, COMMAND)


def test_few_photos_do_where_batches_are_small(other: Network, splits: Splits) -> None:
    photos = splits.train.photos[::9][:10]
    views = Views(photos, other.preprocessing, STRONG)
    features, labels = _features(other.weights, views, replace(SCHEDULE, batch_size=5))
    assert features.shape == (10 * HEAD_VIEWS, 1280)
    assert sorted(labels) == sorted(HEAD_VIEWS * [photo.label for photo in photos])


def test_the_head_is_fitted_alike_each_time() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200).astype(np.int32)
    features = random.normal(0, 1, (200, 8)).astype(np.float32)
    features[np.arange(200), labels] += 4
    kernel, bias = _fit_head(features, labels, 3)
    assert ((features @ kernel + bias).argmax(axis=1) == labels).mean() > 0.9
    again, same = _fit_head(features, labels, 3)
    assert (again == kernel).all()
    assert (same == bias).all()
