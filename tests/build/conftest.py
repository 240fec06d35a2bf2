from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tf_keras
from PIL import Image

SIZE = 64
CLASSES = ("cat", "coffee", "flower", "temple")


def make_keras_model() -> tf_keras.Model:
    """EfficientNetV2B0 of four classes whose BatchNorm has statistics worth folding; always the same."""
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.applications.EfficientNetV2B0(
        weights=None, input_shape=(SIZE, SIZE, 3), classes=len(CLASSES), classifier_activation=None
    )
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            gamma, beta = random.uniform(0.5, 1.5, shape), random.normal(0, 0.3, shape)
            mean, variance = random.normal(0, 0.1, shape), random.uniform(0.5, 1.5, shape)
            layer.set_weights([gamma, beta, mean, variance])
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
    """Makes a folder with one folder a class: so many crops of each package photo, drawn by a seed."""

    def make(name: str, seed: int, count: int) -> Path:
        folder = tmp_path_factory.mktemp(name) / name
        random = np.random.default_rng(seed)
        for label in CLASSES:
            with Image.open(photos[label]) as photo:
                whole = photo.convert("RGB")
            (folder / label).mkdir(parents=True)
            for index in range(count):
                side = int(random.integers(150, 250))
                left = int(random.integers(0, whole.width - side))
                top = int(random.integers(0, whole.height - side))
                crop = whole.crop((left, top, left + side, top + side))
                crop.save(folder / label / f"{index}.jpg", quality=92)
        return folder

    return make


@pytest.fixture(scope="session")
def calibration(make_folder: Callable[[str, int, int], Path]) -> Path:
    return make_folder("calibration", 1, 12)


@pytest.fixture(scope="session")
def evaluation(make_folder: Callable[[str, int, int], Path]) -> Path:
    return make_folder("evaluation", 2, 4)
