import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_keras
from numpy.typing import NDArray

from build.assembly.variants import quantize
from build.evidence.evaluation import record_evaluation
from build.evidence.report import write_report
from build.network.weights import Network, load_network
from build.photos.data import PhotoSet, is_held_out, labelled_photos, sample
from build.quantization.fake_quantization import fake_quantized_network
from build.quantization.int8 import Int8Network
from build.quantization.ranges import Range, calibrate
from build.quantization.recipe import load_recipe
from service.bundle.folder import Bundle, load_bundle
from service.images.pixels import Crop, load_pixels
from service.measuring.labelled import labelled_images
from tests.crops import write_crops

SIZE = 64
CLASSES = ("cat", "coffee", "flower", "temple")  # The names of the photos in the fixture `photos`.
REPRESENTATIVE = 16
SMALL_PTQ = load_recipe("ptq").model_copy(update={"representative_images": REPRESENTATIVE})
RECIPE = """
name = "mine"
weights = "int8-per-channel"
activations = "int8"
representative_images = 8
"""


def flatten(arguments: dict[str, Path | str]) -> list[Path | str]:
    """The options and their values in one list, as on a command line."""
    return [part for pair in arguments.items() for part in pair]


def record(bundle: Bundle, folder: Path, crop: Crop, **options: Any) -> Bundle:
    """Evaluate a bundle on a folder of images and record the result."""
    images = labelled_images(folder, bundle.classes)
    return record_evaluation(bundle, images, folder.name, crop, **options)


def set_statistics(layer: Any, random: np.random.Generator) -> None:
    """Give a layer of BatchNorm parameters and statistics that are not trivial to fold."""
    shape = layer.gamma.shape
    gamma, beta = random.uniform(0.5, 1.5, shape), random.normal(0, 0.3, shape)
    mean, variance = random.normal(0, 0.1, shape), random.uniform(0.5, 1.5, shape)
    layer.set_weights([gamma, beta, mean, variance])


def make_keras_model() -> tf_keras.Model:
    """A reproducible EfficientNetV2B0 of four classes with non-trivial BatchNorm statistics to fold."""
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.applications.EfficientNetV2B0(
        weights=None, input_shape=(SIZE, SIZE, 3), classes=len(CLASSES), classifier_activation=None
    )
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            set_statistics(layer, random)
    return model


@pytest.fixture(scope="session")
def keras_model() -> tf_keras.Model:
    return make_keras_model()


@pytest.fixture(scope="session")
def weights_file(keras_model: tf_keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.h5"
    keras_model.save_weights(path)
    return path


@pytest.fixture(scope="session")
def labels_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "labels.txt"
    path.write_text("\n".join(CLASSES) + "\n")
    return path


@pytest.fixture(scope="session")
def make_folder(
    photos: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, int, int], Path]:
    """Return a function that makes a folder per class, with `count` random crops of a photo in each."""

    def make(name: str, seed: int, count: int) -> Path:
        folder = tmp_path_factory.mktemp(name) / name
        write_crops(folder, photos, seed, count)
        return folder

    return make


@pytest.fixture(scope="session")
def calibration(make_folder: Callable[[str, int, int], Path]) -> Path:
    return make_folder("calibration", 1, 12)


@pytest.fixture(scope="session")
def evaluation(make_folder: Callable[[str, int, int], Path]) -> Path:
    return make_folder("evaluation", 2, 4)


@pytest.fixture(scope="session")
def training_folder(make_folder: Callable[[str, int, int], Path]) -> Path:
    """A folder with enough photos that some are held out of training."""
    return make_folder("training", 3, 30)


@pytest.fixture(scope="session")
def start(weights_file: Path, labels_file: Path) -> Network:
    return load_network(str(weights_file), labels=labels_file, size=SIZE)


@pytest.fixture(scope="session")
def crops(training_folder: Path, start: Network) -> PhotoSet:
    """24 photos to train on, two held out."""
    photos = labelled_photos(training_folder, start.classes).photos
    held_out = [photo for photo in photos if is_held_out(photo)]
    trained_on = [photo for photo in photos if not is_held_out(photo)]
    return PhotoSet("crops", (*trained_on[::4][:24], *held_out[:2]))


@pytest.fixture(scope="session")
def representative(start: Network, calibration: Path) -> NDArray[np.uint8]:
    """The pixels that the small bundle was calibrated on."""
    photos = sample(calibration, REPRESENTATIVE).photos
    return np.stack([load_pixels(photo.path.read_bytes(), start.preprocessing) for photo in photos])


@pytest.fixture(scope="session")
def pixels(start: Network, evaluation: Path) -> NDArray[np.uint8]:
    """The pixels of the evaluation photos."""
    paths = sorted(evaluation.rglob("*.jpg"))
    return np.stack([load_pixels(path.read_bytes(), start.preprocessing) for path in paths])


@pytest.fixture(scope="session")
def ranges(start: Network, representative: NDArray[np.uint8]) -> dict[str, Range]:
    """The activation ranges of the small bundle's ptq."""
    return calibrate(start.weights, representative)


@pytest.fixture(scope="session")
def fake_quantized(start: Network, ranges: dict[str, Range]) -> tf_keras.Model:
    """The small network with fake quantization. A test or fixture that changes it must restore it."""
    return fake_quantized_network(Int8Network(start.weights, ranges, {}), SIZE)


@pytest.fixture(scope="session")
def small(
    start: Network, calibration: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Bundle:
    """The small network as fp32 and ptq, made once for all workers. Tests that change it use `copy`."""
    base = tmp_path_factory.getbasetemp()
    path = (base if worker_id == "master" else base.parent) / "small"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return load_bundle(path)
        photos = sample(calibration, REPRESENTATIVE)
        return quantize(start, [load_recipe("fp32"), SMALL_PTQ], photos, "python -m build quantize", path)


@pytest.fixture
def copy(small: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the small bundle that a test may change."""
    shutil.copytree(small.path, tmp_path / "small")
    return load_bundle(tmp_path / "small")


@pytest.fixture(scope="session")
def measured(
    small: Bundle, start: Network, evaluation: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """The small bundle with an evaluation, a report, and the weights in `start` as a baseline."""
    path = tmp_path_factory.mktemp("measured") / "small"
    shutil.copytree(small.path, path)
    bundle = record(load_bundle(path), evaluation, Crop.BUNDLE, start=start)
    return write_report(bundle, runs=10)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def arguments(
    weights_file: Path, labels_file: Path, calibration: Path, evaluation: Path, tmp_path: Path
) -> dict[str, Path | str]:
    """Valid options for the command `all`."""
    return {
        "--weights": weights_file,
        "--labels": labels_file,
        "--size": str(SIZE),
        "--calibration": calibration,
        "--evaluation": evaluation,
        "--out": tmp_path / "bundle",
        "--run": tmp_path / "run",
    }
