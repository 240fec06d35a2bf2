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
from build.quantization.fake_quantization import WRAPPED, fake_quantized_network, trained_values, variables_of
from build.quantization.int8 import Int8Network, quantize_after_training
from build.quantization.recipe import Pruning, QuantizationAwareTraining
from build.training import pruning
from build.training.fine_tuning import split_held_out
from build.training.pruning import GradualPruning, PruningPlan, sparsity_at, unpruned_network
from service.bundle import Bundle
from service.inference.classifier import Classifier
from tests.build.conftest import CLASSES, REPRESENTATIVE, SIZE, SMALL_PTQ
from tests.build.interruptions import keep_as_interrupted, watch_steps
from tests.build.quantization.test_fake_quantization import stored_kernels

HOW = QuantizationAwareTraining(epochs=4, batch_size=8, learning_rate=1e-3)
STEPS, RAMP = 12, 6
SPARSITY = 0.6
PQK = SMALL_PTQ.model_copy(
    update={
        "name": "pqk",
        "weight_bits": {"*_dwconv2": 5, "*": 4},
        "pruning": Pruning(sparsity=SPARSITY, teacher=True),
        "training": HOW,
    }
)
PRUNED = PQK.model_copy(update={"name": "pruned", "pruning": Pruning(sparsity=SPARSITY)})


@pytest.fixture(scope="module")
def begin(start: Network, representative: NDArray[np.uint8]) -> Int8Network:
    return quantize_after_training(PQK, start.weights, representative)


@pytest.fixture
def model(begin: Int8Network) -> tf_keras.Model:
    return fake_quantized_network(begin, SIZE)


@pytest.fixture
def gradual(
    begin: Int8Network, model: tf_keras.Model, start: Network, representative: NDArray[np.uint8]
) -> GradualPruning:
    means = mean_inputs(start.weights, list(begin.grids), representative)
    return GradualPruning(model, begin.grids, PruningPlan(Pruning(sparsity=SPARSITY), means), 100)


def kept(model: tf_keras.Model) -> dict[str, NDArray[np.bool_]]:
    grids = trained_values(model, SIZE, len(CLASSES)).grids
    return {name: grid.kept for name, grid in grids.items() if grid.kept is not None}


def share(of: dict[str, NDArray[np.bool_]]) -> float:
    return 1 - sum(k.sum() for k in of.values()) / sum(k.size for k in of.values())


def test_the_sparsity_grows_as_zhu_and_gupta_have_it() -> None:
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
        shares.append(share(kept(model)))
    expected = [sparsity_at(step, 50, SPARSITY) for step in (0, 10, 10, 20, 20)]
    assert shares == pytest.approx(expected, abs=1e-4)
    gradual(50)
    assert gradual.is_settled
    settled = kept(model)
    assert share(settled) == pytest.approx(SPARSITY, abs=1e-4)
    assert settled.keys() == {
        name
        for name in begin.grids
        if name != "stem_conv" and name[:6] not in ("block1", "block2", "block3") and "_dw" not in name
    }
    # What has become small since then stays: the teacher needs it to be settled.
    variables_of(model.get_layer(f"{WRAPPED}predictions"))["kernel"].assign(
        tf.zeros_like(begin.weights["predictions"].kernel)
    )
    gradual(60)
    assert all((after == settled[name]).all() for name, after in kept(model).items())


def test_a_weight_that_has_grown_comes_back(gradual: GradualPruning, model: tf_keras.Model) -> None:
    gradual(40)
    gone = ~kept(model)["predictions"]
    assert gone.any()
    kernel = variables_of(model.get_layer(f"{WRAPPED}predictions"))["kernel"]
    kernel.assign(np.where(gone, 9.0, kernel.numpy()))
    gradual(50)
    assert kept(model)["predictions"][gone].all()


def test_biases_take_up_what_each_pruning_shifts_and_no_more(
    gradual: GradualPruning, model: tf_keras.Model, begin: Int8Network, start: Network, representative: Any
) -> None:
    for step in (0, 10, 20, 30, 50):
        gradual(step)
    held = trained_values(model, SIZE, len(CLASSES))
    at_once = quantize_after_training(
        PRUNED.model_copy(update={"training": None}), start.weights, representative
    )
    for name, layer in at_once.weights.items():
        # Which weights are pruned does not hang on the biases.
        assert held.weights[name].bias == pytest.approx(layer.bias, rel=1e-3, abs=1e-4), name


def test_the_unpruned_network_has_the_variables_of_the_pruned_one(
    gradual: GradualPruning, model: tf_keras.Model, begin: Int8Network, representative: NDArray[np.uint8]
) -> None:
    gradual(50)
    whole, pixels = unpruned_network(model, SIZE, len(CLASSES)), normalise(representative[:2])
    held = trained_values(model, SIZE, len(CLASSES))
    plain = network(SIZE, len(CLASSES))
    set_weights(plain, held.weights)
    assert whole(pixels).numpy() == pytest.approx(plain(pixels).numpy(), rel=1e-4, abs=1e-4)
    kernel = variables_of(model.get_layer(f"{WRAPPED}block6h_project_conv"))["kernel"]
    gone = ~kept(model)["block6h_project_conv"]
    with tf.GradientTape(persistent=True) as tape:
        outputs = tf.reduce_sum(whole(pixels)), tf.reduce_sum(model(pixels))
    by_teacher, by_student = (tape.gradient(output, kernel).numpy() for output in outputs)
    assert by_teacher[gone].any()
    assert not by_student[gone].any()
    assert by_student[~gone].any()


@dataclass(frozen=True)
class Made:
    """A bundle of a training that went through, and what its folder held after so many steps."""

    bundle: Bundle
    interrupted: dict[int, Path]


def make(start: Network, calibration: Path, crops: PhotoSet, runs: Path, path: Path) -> Bundle:
    photos, watched = split_held_out(crops.photos)
    plan = TrainingPlan([crops], photos, watched, runs)
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
    interrupted = {after: folder / f"after-{after}" / "recipe-pqk" for after in (3, 9)}
    with pytest.MonkeyPatch.context() as patch:
        keep_as_interrupted(3, folder / "runs" / "recipe-pqk", interrupted[3], patch)
        keep_as_interrupted(9, folder / "runs" / "recipe-pqk", interrupted[9], patch)
        patch.setattr("build.training.loop.STEPS_PER_CHECKPOINT", 3)
        bundle = make(start, calibration, crops, folder / "runs", folder / "small")
    return Made(bundle, interrupted)


def test_what_training_prunes_is_zero_in_the_file(made: Made, begin: Int8Network) -> None:
    Classifier(made.bundle, "pqk")
    stored = stored_kernels(made.bundle.variant_path("pqk").read_bytes())
    pruned = [name for name, grid in begin.grids.items() if grid.kept is not None]
    zeros = sum((stored[name][0] == 0).sum() for name in pruned)
    assert zeros >= SPARSITY * sum(stored[name][0].size for name in pruned)


@pytest.mark.parametrize("after", [3, 9], ids=["while it prunes", "while it is taught"])
def test_the_file_is_that_of_a_run_without_an_interruption(
    after: int,
    made: Made,
    start: Network,
    calibration: Path,
    crops: PhotoSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = watch_steps(monkeypatch)
    again = make(start, calibration, crops, made.interrupted[after].parent, tmp_path / "small")
    assert steps == list(range(after, STEPS))
    name = "pqk"
    assert again.variant_path(name).read_bytes() == made.bundle.variant_path(name).read_bytes()
