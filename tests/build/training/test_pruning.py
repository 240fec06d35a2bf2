from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from build.assembly.variants import TrainingPlan, quantize
from build.network.model import network, normalise, set_weights
from build.network.weights import Network
from build.photos.data import PhotoSet, sample
from build.quantization.bias_correction import mean_inputs
from build.quantization.fake_quantization import (
    KEPT,
    WRAPPED,
    fake_quantized_network,
    trained_values,
    variables_of,
)
from build.quantization.int8 import Int8Network, quantize_after_training
from build.quantization.recipe import Pruning, QuantizationAwareTraining
from build.training import pruning
from build.training.fine_tuning import split_held_out
from build.training.pruning import GradualPruning, PruningPlan, sparsity_at, unpruned_network
from build.training.qat import _loss, _loss_with_teacher, _with_features
from service.bundle.folder import Bundle, sha256_of
from service.inference.classifier import Classifier
from tests.build.conftest import CLASSES, REPRESENTATIVE, SIZE, SMALL_PTQ
from tests.build.interruptions import copy_after_step, watch_steps
from tests.build.quantization.stored import stored_kernels

HOW = QuantizationAwareTraining(epochs=4, batch_size=8, learning_rate=1e-3)
STEPS = 12
# The step of the interruption: after two prunings and before two more, the next one a step later.
AFTER = 3
SPARSITY = 0.6
PQK = SMALL_PTQ.model_copy(
    update={
        "name": "pqk",
        "weight_bits": {"*_dwconv2": 5, "*": 4},
        "pruning": Pruning(sparsity=SPARSITY, teacher=True),
        "training": HOW,
    }
)


@pytest.fixture(scope="module")
def begin(start: Network, representative: NDArray[np.uint8]) -> Int8Network:
    return quantize_after_training(PQK, start.weights, representative)


@pytest.fixture(scope="module")
def means(
    begin: Int8Network, start: Network, representative: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    return mean_inputs(start.weights, list(begin.grids), representative)


@pytest.fixture(scope="module")
def model(begin: Int8Network) -> tf_keras.Model:
    """The network to prune. `gradual` changes it and restores it."""
    return fake_quantized_network(begin, SIZE)


@pytest.fixture
def gradual(
    begin: Int8Network, model: tf_keras.Model, means: dict[str, NDArray[np.float32]]
) -> Iterator[GradualPruning]:
    """The pruning in a training of 100 steps."""
    weights = model.get_weights()
    yield GradualPruning(model, begin.grids, PruningPlan(Pruning(sparsity=SPARSITY), means), 100)
    model.set_weights(weights)


def kept(model: tf_keras.Model) -> dict[str, NDArray[np.bool_]]:
    """Which weights of each layer are not pruned."""
    layers = {layer.name.removeprefix(WRAPPED): variables_of(layer) for layer in model.layers}
    return {name: variables[KEPT].numpy() for name, variables in layers.items() if KEPT in variables}


def pruned_share(of: dict[str, NDArray[np.bool_]]) -> float:
    return 1 - sum(k.sum() for k in of.values()) / sum(k.size for k in of.values())


def test_the_sparsity_grows_by_the_schedule_of_zhu_and_gupta() -> None:
    assert [sparsity_at(step, 4, 0.8) for step in range(7)] == pytest.approx(
        [0, 0.8 * (1 - 27 / 64), 0.8 * (1 - 8 / 64), 0.8 * (1 - 1 / 64), 0.8, 0.8, 0.8]
    )
    assert sparsity_at(0, 0, 0.8) == 0.8


def test_more_is_pruned_every_ten_steps_until_it_is_settled(
    gradual: GradualPruning, model: tf_keras.Model, begin: Int8Network
) -> None:
    shares = []
    for step in (0, 10, 11, 20, 49):
        gradual(step)
        assert not gradual.is_settled
        shares.append(pruned_share(kept(model)))
    expected = [sparsity_at(step, 50, SPARSITY) for step in (0, 10, 10, 20, 20)]
    assert shares == pytest.approx(expected, abs=1e-4)
    gradual(50)
    assert gradual.is_settled
    settled = kept(model)
    assert pruned_share(settled) == pytest.approx(SPARSITY, abs=1e-4)
    assert settled.keys() == {
        name
        for name in begin.grids
        if name != "stem_conv" and name[:6] not in ("block1", "block2", "block3") and "_dw" not in name
    }
    # A weight that becomes small later is not pruned: the choice must be settled for the teacher.
    variables_of(model.get_layer(f"{WRAPPED}predictions"))["kernel"].assign(
        tf.zeros_like(begin.weights["predictions"].kernel)
    )
    gradual(60)
    assert all((after == settled[name]).all() for name, after in kept(model).items())


def test_a_pruned_weight_that_has_grown_is_restored(gradual: GradualPruning, model: tf_keras.Model) -> None:
    gradual(40)
    gone = ~kept(model)["predictions"]
    assert gone.any()
    kernel = variables_of(model.get_layer(f"{WRAPPED}predictions"))["kernel"]
    kernel.assign(np.where(gone, 9.0, kernel.numpy()))
    gradual(50)
    assert kept(model)["predictions"][gone].all()


def test_gradual_pruning_corrects_biases_as_pruning_at_once_does(
    gradual: GradualPruning, model: tf_keras.Model, start: Network, representative: NDArray[np.uint8]
) -> None:
    for step in (0, 10, 20, 30, 50):
        gradual(step)
    held = trained_values(model, SIZE, len(CLASSES))
    at_once = quantize_after_training(
        PQK.model_copy(update={"training": None}), start.weights, representative
    )
    for name, layer in at_once.weights.items():
        # Which weights are pruned does not depend on the biases.
        assert held.weights[name].bias == pytest.approx(layer.bias, rel=1e-3, abs=1e-4), name


def test_the_unpruned_network_shares_the_variables_of_the_pruned_one(
    gradual: GradualPruning, model: tf_keras.Model, representative: NDArray[np.uint8]
) -> None:
    gradual(50)
    whole, pixels = unpruned_network(model, SIZE, len(CLASSES)), normalise(representative[:2])
    held = trained_values(model, SIZE, len(CLASSES))
    plain = network(SIZE, len(CLASSES))
    set_weights(plain, held.weights)
    assert whole(pixels).numpy() == pytest.approx(plain(pixels).numpy(), rel=1e-4, abs=1e-4)


def test_the_unpruned_network_learns_and_teaches_after_pruning_settles(
    gradual: GradualPruning, model: tf_keras.Model, start: Network, representative: NDArray[np.uint8]
) -> None:
    gradual(50)
    plain = network(SIZE, len(CLASSES))
    set_weights(plain, start.weights)
    whole = unpruned_network(model, SIZE, len(CLASSES))
    student = _with_features(model, f"{WRAPPED}avg_pool", f"{WRAPPED}predictions")
    target, teacher = (_with_features(of, "avg_pool", "predictions") for of in (plain, whole))
    kernel = variables_of(model.get_layer(f"{WRAPPED}block6h_project_conv"))["kernel"]
    gone, batch = ~kept(model)["block6h_project_conv"], representative[:4]

    def measure() -> tuple[float, NDArray[np.float32]]:
        with tf.GradientTape() as tape:
            value = _loss_with_teacher(student, target, teacher, gradual.is_settled)(batch, None)
        return float(value), tape.gradient(value, kernel).numpy()

    taught, gradient = measure()
    assert gradient[gone].any()
    gradual(49)
    alone, gradient = measure()
    assert not gradient[gone].any()
    assert gradient[~gone].any()
    assert 0 < alone < taught
    assert alone == pytest.approx(float(_loss(student, target)(batch, None)), rel=1e-4)


@dataclass(frozen=True)
class Made:
    """The bundle of a training that was not interrupted, and a copy of its folder amid the pruning."""

    bundle: Bundle
    interrupted: Path


def make(start: Network, calibration: Path, crops: PhotoSet, runs: Path, path: Path) -> Bundle:
    photos, validation = split_held_out(crops.photos)
    plan = TrainingPlan([crops], photos, validation, runs)
    return quantize(start, [PQK], sample(calibration, REPRESENTATIVE), "python -m build quantize", path, plan)


@pytest.fixture(scope="module")
def steps_per_pruning() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruning, "STEPS_PER_PRUNING", 2)
        yield


@pytest.fixture(scope="module")
def made(
    start: Network,
    calibration: Path,
    crops: PhotoSet,
    tmp_path_factory: pytest.TempPathFactory,
    steps_per_pruning: None,
) -> Made:
    folder = tmp_path_factory.mktemp("made")
    interrupted = folder / "interrupted" / "recipe-pqk"
    with pytest.MonkeyPatch.context() as patch:
        copy_after_step(AFTER, folder / "runs" / "recipe-pqk", interrupted, patch)
        bundle = make(start, calibration, crops, folder / "runs", folder / "small")
    return Made(bundle, interrupted)


def test_weights_pruned_in_training_are_zero_in_the_file(made: Made, begin: Int8Network) -> None:
    Classifier(made.bundle, "pqk")
    stored = stored_kernels(made.bundle.variant_path("pqk").read_bytes())
    pruned = [name for name, grid in begin.grids.items() if grid.kept is not None]
    zeros = sum((stored[name][0] == 0).sum() for name in pruned)
    assert zeros >= round(SPARSITY * sum(stored[name][0].size for name in pruned))


def test_a_resumed_run_makes_the_same_file(
    made: Made,
    start: Network,
    calibration: Path,
    crops: PhotoSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = watch_steps(monkeypatch)
    again = make(start, calibration, crops, made.interrupted.parent, tmp_path / "small")
    assert steps == list(range(AFTER, STEPS))
    assert sha256_of(again.variant_path("pqk")) == sha256_of(made.bundle.variant_path("pqk"))
