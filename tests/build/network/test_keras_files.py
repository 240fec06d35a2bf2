"""Networks that users trained, as Keras 2 and 3 save them."""

import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tf_keras

from build.network.keras_files import load_keras_file
from build.network.keras_layers import UnfitError
from build.network.keras_models import normalisation_of
from build.network.model import IMAGENET, Weights, network, set_weights, with_pixel_input
from build.network.weights import default_preprocessing, load_network
from tests.build.conftest import CLASSES, SIZE, set_statistics
from tests.build.network.equal_weights import assert_equal
from tests.build.network.keras_saving import BOTH, WARNINGS, base_of, refused

pytestmark = WARNINGS


def layers_of(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from layers_of(layer)
        else:
            yield layer


def give_statistics(model: Any) -> Any:
    """Return the model with BatchNorm statistics, and with a stem that ignores the padding of the image."""
    random = np.random.default_rng(0)
    for layer in layers_of(model):
        if type(layer).__name__ == "BatchNormalization":
            set_statistics(layer, random)
        if layer.name == "stem_conv":
            (kernel,) = layer.get_weights()
            kernel[2] = kernel[:, 2] = 0
            layer.set_weights([kernel])
    return model


@pytest.fixture(scope="module")
def folded() -> tf_keras.Model:
    return network(SIZE, len(CLASSES))


@pytest.fixture(scope="module")
def nested() -> keras.Model:
    """A model as in Keras' guide to transfer learning: augmentation, the base as one layer, softmax."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3))
    augmented = keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)])(image)
    pooled = layers.GlobalAveragePooling2D()(base_of(keras)(augmented, training=False))
    head = layers.Dense(len(CLASSES), activation="softmax", name="mine")
    return give_statistics(keras.Model(image, head(layers.Dropout(0.2)(pooled))))


@pytest.fixture(scope="module")
def nested_file(nested: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nested") / "mine.keras"
    nested.save(path)
    return path


def assert_same(weights: Weights, model: Any, folded: tf_keras.Model) -> None:
    """Check that the weights give the model's logits or probabilities for random pixels."""
    set_weights(folded, weights)
    pixels = np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.float32)
    expected, logits = np.asarray(model(pixels, training=False)), with_pixel_input(folded)(pixels)
    has_softmax = np.allclose(expected.sum(-1), 1)
    actual = tf_keras.activations.softmax(logits) if has_softmax else logits
    assert expected.std(0).max() > 0.01
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


def test_a_base_with_a_head_saved_by_keras_3_is_loaded(
    nested: keras.Model, nested_file: Path, labels_file: Path, folded: tf_keras.Model, tmp_path: Path
) -> None:
    whole = load_network(str(nested_file), labels=labels_file)
    assert (whole.source, whole.preprocessing) == ("mine.keras", default_preprocessing(SIZE))
    weights = whole.weights
    assert_same(weights, nested, folded)
    nested.save_weights(tmp_path / "mine.weights.h5")
    only_weights, size = load_keras_file(tmp_path / "mine.weights.h5", SIZE)
    assert size == SIZE
    assert_equal(only_weights, weights)
    nested.save(tmp_path / "mine.h5")
    assert_equal(load_keras_file(tmp_path / "mine.h5", SIZE)[0], weights)


def test_an_inlined_base_with_its_own_normalisation_is_loaded(folded: tf_keras.Model, tmp_path: Path) -> None:
    image = keras.Input((SIZE, SIZE, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    base = base_of(keras, include_preprocessing=False, input_tensor=scaled, pooling="avg")
    head = keras.layers.Dense(len(CLASSES))
    model = give_statistics(keras.Model(image, head(base.output)))
    model.save(tmp_path / "mine.keras")
    weights, size = load_keras_file(tmp_path / "mine.keras", None)
    assert size == SIZE
    assert_same(weights, model, folded)
    model.save_weights(tmp_path / "mine.weights.h5")
    assert "normalises pixels differently" in refused(tmp_path / "mine.weights.h5")


@pytest.mark.parametrize("name", ["whole.keras", "whole.h5"])
def test_a_whole_model_with_its_own_head_saved_by_keras_2_is_loaded(
    keras_model: tf_keras.Model, weights_file: Path, tmp_path: Path, name: str
) -> None:
    keras_model.save(tmp_path / name)
    weights, size = load_keras_file(tmp_path / name, None)
    assert size == SIZE
    assert_equal(weights, load_keras_file(weights_file, None)[0])


def test_a_weights_h5_file_saved_by_keras_2_is_loaded(
    keras_model: tf_keras.Model, weights_file: Path, tmp_path: Path
) -> None:
    keras_model.save_weights(tmp_path / "small.weights.h5")
    weights, size = load_keras_file(tmp_path / "small.weights.h5", None)
    assert size == 224
    assert_equal(weights, load_keras_file(weights_file, None)[0])


@BOTH
def test_a_sequential_head_with_batchnorm_and_without_bias_is_loaded(
    library: ModuleType, folded: tf_keras.Model, tmp_path: Path
) -> None:
    layers = library.layers
    pooling, norm, dense = (
        layers.GlobalAveragePooling2D(),
        layers.BatchNormalization(),
        layers.Dense(len(CLASSES), use_bias=False),
    )
    model = give_statistics(library.Sequential([base_of(library), pooling, norm, layers.Dropout(0.2), dense]))
    path = tmp_path / ("mine.h5" if library is tf_keras else "mine.weights.h5")
    model.save_weights(path)
    assert_same(load_keras_file(path, SIZE)[0], model, folded)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("member", ["config.json", "assets/layer/vocabulary.txt", "model.weights.npz"])
def test_an_archive_with_unexpected_members_is_refused(
    nested_file: Path, tmp_path: Path, member: str
) -> None:
    path = Path(shutil.copy(nested_file, tmp_path))
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, config)
    assert refused(path).startswith("does not hold exactly config.json, metadata.json, model.weights.h5: ")


def link_elsewhere(file: h5py.File, name: str, other: Path) -> None:
    file[name] = h5py.ExternalLink(other, name)


def store_elsewhere(file: h5py.File, name: str, other: Path) -> None:
    file.create_dataset(name, (4,), "float32", external=[(other, 0, 16)])


def map_elsewhere(file: h5py.File, name: str, other: Path) -> None:
    layout = h5py.VirtualLayout((4,), "float32")
    layout[:] = h5py.VirtualSource(other, name, (4,))
    file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize("redirect", [link_elsewhere, store_elsewhere, map_elsewhere])
def test_values_stored_in_another_file_are_refused(
    redirect: Callable[[h5py.File, str, Path], None],
    suffix: str,
    nested_file: Path,
    weights_file: Path,
    tmp_path: Path,
) -> None:
    bias, weights = "predictions/predictions/bias:0", shutil.copy(weights_file, tmp_path / "mine.h5")
    with h5py.File(weights, "r+") as file, h5py.File(tmp_path / "other.h5", "w") as other:
        other[bias] = file[bias][()]
        del file[bias]
        redirect(file, bias, tmp_path / "other.h5")
    path = tmp_path / f"mine.{suffix}"
    if suffix == "keras":
        with zipfile.ZipFile(nested_file) as whole, zipfile.ZipFile(path, "w") as archive:
            for name in ("config.json", "metadata.json"):
                archive.writestr(name, whole.read(name))
            archive.write(weights, "model.weights.h5")
    assert refused(path).startswith("takes values from other files: save the whole model")


def test_another_size_than_the_models_is_refused(nested_file: Path) -> None:
    assert refused(nested_file, 224) == "takes 64 x 64 pixels, not 224 x 224"


def test_a_truncated_file_is_refused(nested_file: Path, weights_file: Path, tmp_path: Path) -> None:
    for whole in (nested_file, weights_file):
        path = tmp_path / whole.name
        path.write_bytes(whole.read_bytes()[:-100_000])
        assert "save the whole model with model.save('mine.keras')" in refused(path)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.h5"
    path.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    assert refused(path).startswith("is neither a .keras file nor an .h5 one: save the whole model with")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.h5", "is a zip archive, but its name does not end in .keras: rename it"),
        ("mine.keras", "is HDF5, but its name does not end in .h5 or .hdf5: rename it"),
        ("mine", "is HDF5, but its name does not end in .h5 or .hdf5: rename it"),
    ],
)
def test_a_file_name_that_contradicts_the_content_is_refused(
    nested_file: Path, weights_file: Path, tmp_path: Path, name: str, message: str
) -> None:
    shutil.copy(nested_file if "zip" in message else weights_file, tmp_path / name)
    assert refused(tmp_path / name) == message


@BOTH
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda layers: [layers.Dense(8), layers.Dense(4)], "has 2 Dense layers"),
        (lambda layers: [], "has no Dense layers"),
        (lambda layers: [layers.Dense(1, activation="sigmoid")], "has a single output"),
        (
            lambda layers: [layers.Dense(4)],
            "is not EfficientNetV2B0, since it has no layer stem_conv",
        ),
    ],
)
def test_other_networks_are_refused(
    library: ModuleType, tmp_path: Path, make: Callable[[Any], list[Any]], message: str
) -> None:
    layers = library.layers
    pixels = [library.Input((32, 32, 3)), layers.Rescaling(1 / 127.5, -1), layers.Conv2D(8, 3)]
    library.Sequential([*pixels, layers.GlobalAveragePooling2D(), *make(layers)]).save(
        tmp_path / "mine.keras"
    )
    assert refused(tmp_path / "mine.keras").startswith(message)


def test_a_larger_network_of_the_family_is_refused(tmp_path: Path) -> None:
    tf_keras.applications.EfficientNetV2B1(weights=None, classes=4).save_weights(tmp_path / "b1.h5")
    assert refused(tmp_path / "b1.h5").startswith("has a layer block")


def test_weights_that_lack_the_normalisation_are_refused(weights_file: Path, tmp_path: Path) -> None:
    path = shutil.copy(weights_file, tmp_path / "mine.h5")
    with h5py.File(path, "r+") as file:
        names = file.attrs["layer_names"]
        file.attrs["layer_names"] = [name for name in names if not name.startswith(("rescal", "normal"))]
    assert "normalises pixels differently from EfficientNetV2B0 itself" in refused(path)


def test_a_head_of_sigmoids_is_refused(nested: keras.Model, tmp_path: Path) -> None:
    head = keras.layers.Dense(len(CLASSES), activation="sigmoid")
    keras.Model(nested.inputs, head(nested.layers[-2].output)).save(tmp_path / "mine.keras")
    assert refused(tmp_path / "mine.keras").startswith(
        "does not compute the same as EfficientNetV2B0 with a head"
    )


@BOTH
def test_successive_operations_on_pixels_make_one_normalisation(library: ModuleType) -> None:
    layers = library.layers
    own = [
        layers.Rescaling(1 / 255),
        layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.229**2, 0.224**2, 0.225**2]),
    ]
    own[1].build((None, SIZE, SIZE, 3))
    assert normalisation_of(own) is IMAGENET
    halves = normalisation_of([layers.Rescaling(2), layers.Rescaling(1 / 255, offset=-1)])
    np.testing.assert_allclose((halves.mean, halves.std), 127.5)
    with pytest.raises(UnfitError, match="does not normalise pixels itself"):
        normalisation_of([])
    with pytest.raises(UnfitError, match=r"takes \(pixel - \[31537.*needs no Rescaling before"):
        normalisation_of([layers.Rescaling(1 / 255), *own])
