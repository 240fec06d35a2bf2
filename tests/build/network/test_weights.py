import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import tf_keras
from ai_edge_litert import schema_py_generated as schema

from build.errors import BuildError
from build.network.model import fold
from build.network.read_back import read_back
from build.network.weights import (
    Network,
    default_preprocessing,
    load_network,
    save_trained,
    weights_digest,
)
from service.bundle.folder import Bundle, Classes
from service.errors import BundleError
from tests.build.conftest import CLASSES, SIZE
from tests.build.network.equal_weights import assert_equal
from tests.build.trained import TRAINING
from tests.packed import packed_copy


@pytest.fixture
def trained(start: Network, tmp_path: Path) -> Path:
    """A folder as `train` leaves it."""
    folder = tmp_path / "trained"
    folder.mkdir()
    save_trained(folder, start, TRAINING)
    return folder


def assert_refused(load: Callable[[], object], message: str, error: type[Exception] = BuildError) -> None:
    """Check that `load` fails with a message of one line."""
    with pytest.raises(error, match=message) as caught:
        load()
    assert "\n" not in str(caught.value)


def test_a_keras_file_is_folded(start: Network, keras_model: tf_keras.Model) -> None:
    assert_equal(start.weights, fold(keras_model))
    assert start.source == "small.h5"
    assert start.classes == Classes(CLASSES, None)
    assert start.preprocessing == default_preprocessing(SIZE)
    assert start.training is None
    assert start.seen_images == frozenset()


def test_the_exact_weights_are_read_back_from_the_fp32_of_a_bundle(small: Bundle, start: Network) -> None:
    network = load_network(str(small.path))
    assert_equal(network.weights, start.weights)
    assert network.source == "small"
    assert network.classes == start.classes
    assert network.preprocessing == start.preprocessing
    assert network.seen_images == small.seen_images


def test_a_trained_folder_keeps_the_order_of_layers(trained: Path, start: Network) -> None:
    # The order is part of what identifies a run, and noise is drawn in this order.
    assert list(load_network(str(trained)).weights) == list(start.weights)


def test_a_trained_folder_is_read_back_unchanged(trained: Path, start: Network) -> None:
    network = load_network(str(trained))
    assert_equal(network.weights, start.weights)
    assert network.source == "trained"
    assert network.training == TRAINING
    assert (network.classes, network.preprocessing) == (start.classes, start.preprocessing)


def test_a_licence_is_passed_on_and_is_otherwise_unknown(
    start: Network, small: Bundle, tmp_path: Path
) -> None:
    assert start.licence == "unknown"
    save_trained(tmp_path, replace(start, licence="MIT", training=TRAINING), TRAINING)
    assert load_network(str(tmp_path)).licence == "MIT"
    assert load_network(str(small.path)).licence == small.manifest.licence == "unknown"


def test_a_folder_whose_saving_was_interrupted_is_refused(trained: Path) -> None:
    (trained / "training.json").rename(trained / ".training.json.unfinished")
    assert_refused(lambda: load_network(str(trained)), "trained is neither `imagenet`, nor")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("weights.npz", b""),
        ("weights.npz", b"PK\x03\x04 and no more"),
        ("training.json", b'{"training"'),
        ("training.json", b"{}"),
        ("training.json", b'{"training": {}, "preprocessing": {}, "labels": [], "class_ids": null}'),
    ],
)
def test_a_damaged_trained_folder_is_refused(trained: Path, file: str, content: bytes) -> None:
    (trained / file).write_bytes(content)
    assert_refused(lambda: load_network(str(trained)), "trained is damaged; train it again")


def test_truncated_weights_are_refused(trained: Path) -> None:
    content = (trained / "weights.npz").read_bytes()
    (trained / "weights.npz").write_bytes(content[: len(content) // 2])
    assert_refused(lambda: load_network(str(trained)), "trained is damaged; train it again")


def test_a_trained_folder_without_one_of_the_layers_is_refused(trained: Path) -> None:
    with np.load(trained / "weights.npz") as arrays:
        kept = {name: array for name, array in arrays.items() if name != "stem_conv/bias"}
    np.savez(trained / "weights.npz", **kept)
    assert_refused(lambda: load_network(str(trained)), "trained is damaged.*stem_conv/bias")


def test_an_unknown_source_of_weights_is_refused_with_the_known_ones() -> None:
    assert_refused(
        lambda: load_network("nope.h5"), r"nope\.h5 is neither `imagenet`, nor a file saved by Keras"
    )


def test_a_file_that_holds_no_weights_is_refused(labels_file: Path) -> None:
    assert_refused(
        lambda: load_network(str(labels_file)), r"labels\.txt is neither a \.keras file nor an \.h5 one"
    )


def test_another_architectures_weights_are_refused(tmp_path: Path, labels_file: Path) -> None:
    path = tmp_path / "mobilenet.h5"
    tf_keras.applications.MobileNetV2(weights=None, classes=len(CLASSES)).save_weights(path)
    assert_refused(
        lambda: load_network(str(path), labels=labels_file), "it has no layer stem_conv: build takes"
    )


def test_a_failed_download_names_the_alternative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert_refused(lambda: load_network("imagenet"), "can't be downloaded; name a file with --weights: ")


def test_weights_are_read_back_from_a_packed_variant_too(small: Bundle, tmp_path: Path) -> None:
    plain = load_network(str(small.path)).weights
    packed = load_network(str(packed_copy(small, tmp_path / "packed", "fp32").path)).weights
    assert weights_digest(packed) == weights_digest(plain)


def test_a_bundle_of_another_network_is_refused(colours: Bundle) -> None:
    assert_refused(lambda: load_network(str(colours.path)), r"fp32\.tflite is not a float32 EfficientNetV2B0")


def test_a_bundle_without_a_float_variant_is_refused(copy: Bundle) -> None:
    manifest = json.loads((copy.path / "manifest.json").read_text())
    del manifest["variants"]["fp32"]
    (copy.path / "manifest.json").write_text(json.dumps(manifest))
    assert_refused(lambda: load_network(str(copy.path)), "no variant 'fp32'; it has: ptq", BundleError)


def test_a_damaged_bundle_is_refused(copy: Bundle) -> None:
    with copy.variant_path("fp32").open("r+b") as file:
        file.truncate(1000)
    assert_refused(lambda: load_network(str(copy.path)), "copy the bundle again", BundleError)


def test_reading_weights_from_a_file_that_is_no_model_is_refused(labels_file: Path) -> None:
    assert_refused(
        lambda: read_back(labels_file, SIZE, len(CLASSES)), r"labels\.txt can't be loaded", BundleError
    )


def test_reading_weights_from_a_quantized_file_is_refused(small: Bundle) -> None:
    assert_refused(lambda: read_back(small.variant_path("ptq"), SIZE, len(CLASSES)), "is not a float32")


def rewritten(path: Path, to: Path, change: Callable[[Any], object]) -> Path:
    """Copy a `.tflite` file to `to` with a change to its model."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    change(model)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    to.write_bytes(bytes(builder.Output()))
    return to


def test_a_layer_without_a_bias_gets_zeros(small: Bundle, tmp_path: Path) -> None:
    def leave_out(model: Any) -> None:
        dense = schema.BuiltinOperator.FULLY_CONNECTED
        operators = model.subgraphs[0].operators
        (head,) = (one for one in operators if model.operatorCodes[one.opcodeIndex].builtinCode == dense)
        head.inputs = head.inputs[:2]

    path = rewritten(small.variant_path("fp32"), tmp_path / "fp32.tflite", leave_out)
    weights, whole = (read_back(file, SIZE, len(CLASSES)) for file in (path, small.variant_path("fp32")))
    np.testing.assert_array_equal(weights["predictions"].kernel, whole["predictions"].kernel)
    np.testing.assert_array_equal(weights["predictions"].bias, np.zeros(len(CLASSES), np.float32))


def test_a_file_with_two_graphs_or_without_names_is_refused(small: Bundle, tmp_path: Path) -> None:
    def add_graph(model: Any) -> None:
        model.subgraphs.append(model.subgraphs[0])

    def leave_out_names(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            tensor.name = None

    path = tmp_path / "fp32.tflite"
    for change, message in ((add_graph, "has 2 graphs"), (leave_out_names, "no stem_conv")):
        rewritten(small.variant_path("fp32"), path, change)
        expected = f"is not a float32 EfficientNetV2B0 of this build stage: {message}"
        assert_refused(lambda: read_back(path, SIZE, len(CLASSES)), expected)


def test_options_that_contradict_a_trained_folder_are_refused(
    trained: Path, labels_file: Path, tmp_path: Path
) -> None:
    load_network(str(trained), labels=labels_file, size=SIZE)
    assert_refused(lambda: load_network(str(trained), size=224), "takes 64 x 64 pixels, not 224 x 224")
    assert_refused(lambda: load_network(str(trained), class_ids=labels_file), "has its own classes")
    other = tmp_path / "other.txt"
    other.write_text("cat\ntea\nflower\ntemple\n")
    assert_refused(lambda: load_network(str(trained), labels=other), r"not those in .*other\.txt")


def test_a_network_whose_classes_are_unknown_needs_labels(weights_file: Path) -> None:
    assert_refused(
        lambda: load_network(str(weights_file)), "the network has 4 classes; name them with --labels"
    )


def test_a_digest_depends_on_the_values_and_not_on_the_order(start: Network) -> None:
    before = weights_digest(start.weights)
    assert before == weights_digest(dict(reversed(start.weights.items())))
    changed = dict(start.weights)
    changed["predictions"] = changed["stem_conv"]
    assert weights_digest(changed) != before


def test_downloaded_weights_do_not_come_from_elsewhere(
    start: Network, labels_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The download itself needs the Internet.
    monkeypatch.setattr("build.network.weights._download", lambda: start.weights)
    assert load_network("imagenet", labels=labels_file).origin == {}


def test_only_weights_of_others_say_that_they_come_from_elsewhere(
    start: Network, trained: Path, shared: Path, tmp_path: Path
) -> None:
    assert start.origin == load_network(str(trained)).origin == {"imported": "small.h5"}
    record = json.loads((trained / "training.json").read_bytes())
    del record["origin"]  # As in a folder that was written before there was this key.
    (trained / "training.json").write_text(json.dumps(record))
    assert load_network(str(trained)).origin == {}
    # Those that the default bundle started from, whatever the file is named.
    shutil.copy(shared / "weights" / "efficientnetv2-b0.h5", tmp_path / "mine.h5")
    assert load_network(str(tmp_path / "mine.h5")).origin == {}
