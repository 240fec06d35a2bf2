from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from build.assembly import variants
from build.assembly.variants import TrainingPlan, quantize
from build.errors import BuildError
from build.network.model import LayerWeights, Weights
from build.network.weights import Network, weights_digest
from build.photos.data import PhotoSet, sample
from build.quantization.convert import convert, convert_int8
from build.quantization.int8 import Int8Network, quantize_after_training
from build.quantization.ranges import SIGMOID_RANGE, Range
from build.quantization.recipe import QuantizationAwareTraining, Recipe, load_recipe
from build.training.fine_tuning import split_held_out
from build.training.qat import QuantizedTraining, train_quantized
from build.training.schedule import Schedule
from service.bundle.folder import SEEN_DIGITS, Bundle, sha256_of, verify
from service.inference.classifier import Classifier
from service.measuring.labelled import image_set
from tests.build.conftest import REPRESENTATIVE, SIZE

HOW = QuantizationAwareTraining(epochs=4, batch_size=8, learning_rate=1e-4, range_rate=100)
SMALL_QAT = load_recipe("qat").model_copy(
    update={"representative_images": REPRESENTATIVE, "training": HOW, "weight_bits": {"block6*": 4}}
)
SCHEDULE = Schedule(HOW.epochs, HOW.batch_size, HOW.learning_rate)
STEPS = 12
COMMAND = "python -m build quantize"


def quantize_with_clipping(recipe: Recipe, weights: Weights, pixels: NDArray[np.uint8]) -> Int8Network:
    """Quantize with ranges that clip most of the outputs of SiLU, so that there is much to learn."""
    int8 = quantize_after_training(recipe, weights, pixels)
    ranges = {
        name: Range(found.low * 0.4, found.high * 0.4) if name.endswith("_silu") else found
        for name, found in int8.ranges.items()
    }
    return replace(int8, ranges=ranges)


@pytest.fixture(scope="module")
def soft(start: Network) -> Network:
    """The small network with less confident answers, so that errors change the divergence."""
    head = start.weights["predictions"]
    softer = LayerWeights(head.kernel * 0.05, head.bias)
    return replace(start, weights=start.weights | {"predictions": softer})


@dataclass(frozen=True)
class Made:
    """A bundle, the start and the result of the training of its `qat`, and the folder of its checkpoints."""

    bundle: Bundle
    start: Int8Network
    trained: QuantizedTraining
    folder: Path


@pytest.fixture(scope="module")
def made(soft: Network, calibration: Path, crops: PhotoSet, tmp_path_factory: pytest.TempPathFactory) -> Made:
    photos, validation = split_held_out(crops.photos)
    plan = TrainingPlan([crops], photos, validation, tmp_path_factory.mktemp("runs"))
    recipes, path = [SMALL_QAT, load_recipe("fp32")], tmp_path_factory.mktemp("made") / "small"
    trainings: list[tuple[Int8Network, QuantizedTraining]] = []

    def recorded(teacher: Weights, start: Int8Network, *rest: Any) -> QuantizedTraining:
        trained = train_quantized(teacher, start, *rest)
        trainings.append((start, trained))
        return trained

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "quantize_after_training", quantize_with_clipping)
        patch.setattr(variants, "train_quantized", recorded)
        bundle = quantize(soft, recipes, sample(calibration, REPRESENTATIVE), COMMAND, path, plan)
    ((start, trained),) = trainings
    return Made(bundle, start, trained, plan.folder(SMALL_QAT))


def test_training_brings_the_quantized_network_nearer_to_the_float_one(made: Made) -> None:
    losses = made.trained.losses
    assert 0 < losses["kl_nats_after"] < 0.7 * losses["kl_nats_before"]
    assert made.trained.steps == STEPS
    assert made.trained.seconds > 0


def test_weights_and_ranges_are_learned(made: Made, soft: Network) -> None:
    assert all(
        (layer.kernel != soft.weights[name].kernel).any()
        for name, layer in made.trained.values.weights.items()
    )
    widths = {name: found.high - found.low for name, found in made.start.ranges.items()}
    moved = {
        name: (found.high - found.low) / widths[name]
        for name, found in made.trained.values.ranges.items()
        if found != SIGMOID_RANGE and name != "input"
    }
    assert all(ratio != 1 for ratio in moved.values())
    assert all(0.8 < ratio < 1.25 for ratio in moved.values())


def test_the_file_has_the_weights_and_ranges_that_training_ended_with(made: Made) -> None:
    content = convert_int8(made.trained.values, SIZE)
    assert sha256_of(made.bundle.variant_path("qat")) == sha256_of(content)
    training = made.bundle.variant("qat").provenance.training
    assert training is not None
    assert training.losses == made.trained.losses


def test_the_float_variant_is_untouched(made: Made, soft: Network) -> None:
    content = convert(load_recipe("fp32"), soft.weights, SIZE, np.empty((0, SIZE, SIZE, 3), np.uint8))
    assert sha256_of(made.bundle.variant_path("fp32")) == sha256_of(content)
    assert made.bundle.variant("fp32").provenance.training is None
    assert made.bundle.manifest.training is None


def test_the_bundle_says_how_it_was_trained(made: Made, soft: Network, crops: PhotoSet) -> None:
    bundle = made.bundle
    verify(bundle)
    Classifier(bundle, "qat")
    assert bundle.manifest.default_variant == "qat"
    provenance = bundle.variant("qat").provenance
    assert provenance.recipe == {**SMALL_QAT.settings(), "imported": "small.h5"}
    assert provenance.recipe["training.epochs"] == HOW.epochs
    assert provenance.calibration is not None
    assert provenance.calibration.images == REPRESENTATIVE
    training = provenance.training
    assert training is not None
    assert training.command == COMMAND
    assert training.started_from == "small.h5"
    assert training.started_from_sha256 == weights_digest(soft.weights)
    digests = [photo.sha256 for photo in crops.photos]
    assert training.images == (image_set("crops", digests),)
    assert (training.steps, training.batch_size, training.learning_rate) == (STEPS, 8, 1e-4)
    assert training.seed == 0
    assert set(training.losses) == {
        f"{loss}_{when}" for loss in ("kl_nats", "cross_entropy_nats") for when in ("before", "after")
    }
    assert {digest[:SEEN_DIGITS] for digest in digests} < bundle.seen_images


def test_a_run_folder_of_other_ranges_grids_or_weights_is_refused(
    made: Made, soft: Network, start: Network, crops: PhotoSet
) -> None:
    photos, validation = split_held_out(crops.photos)
    rest = (photos, validation, soft.preprocessing, SCHEDULE, HOW.range_rate, made.folder)
    ranges = made.start.ranges | {"predictions": Range(-1.0, 1.0)}
    for teacher, begin in (
        (soft.weights, replace(made.start, ranges=ranges)),
        (start.weights, made.start),
        (soft.weights, replace(made.start, weights=start.weights)),
        (soft.weights, replace(made.start, grids={})),
    ):
        with pytest.raises(BuildError, match="holds the checkpoints of a run with other options"):
            train_quantized(teacher, begin, *rest)
