"""Code and foreign objects in a Keras file are never run or created."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tf_keras

from build.network.keras_files import load_keras_file
from build.network.keras_layers import UnfitError
from build.network.keras_models import load_model
from tests.build.conftest import CLASSES, SIZE
from tests.build.network.keras_saving import BOTH, WARNINGS, base_of, refused

pytestmark = WARNINGS


@BOTH
@pytest.mark.parametrize("name", ["mine.keras", "mine.h5"])
def test_code_in_a_file_is_not_run(library: ModuleType, name: str, tmp_path: Path) -> None:
    double = library.layers.Lambda(lambda pixels: 2 * pixels, name="double")
    library.Sequential([library.Input((8, 8, 3)), double]).save(tmp_path / name)
    assert refused(tmp_path / name).startswith(
        "has a layer double of type Lambda: build takes EfficientNetV2B0"
    )


@pytest.fixture
def writes_a_file(tmp_path: Path) -> tuple[tf_keras.Model, Path]:
    """A model whose layer writes a file when the model is loaded, and that file."""
    written = str(tmp_path / "written")
    write = tf_keras.layers.Lambda(
        lambda pixels, at: (__import__("pathlib").Path(at).write_text("run"), pixels)[1],
        arguments={"at": written},
    )
    model = tf_keras.Sequential([tf_keras.Input((8, 8, 3)), write])
    Path(written).unlink()
    return model, Path(written)


@pytest.mark.parametrize("name", ["mine.h5", "mine.keras"])
def test_code_in_a_file_of_two_formats_is_not_run(
    writes_a_file: tuple[tf_keras.Model, Path], name: str, tmp_path: Path
) -> None:
    model, written = writes_a_file
    model.save(tmp_path / name, save_format="h5")
    harmless = {"class_name": "Sequential", "config": {"layers": []}}
    with zipfile.ZipFile(tmp_path / name, "a") as archive:
        archive.writestr("config.json", json.dumps(harmless))
        archive.writestr("metadata.json", '{"keras_version": "2.15"}')
    assert refused(tmp_path / name).startswith("is a zip archive and HDF5 at once: save the whole model")
    assert not written.exists()


def test_keras_2_loads_in_safe_mode(writes_a_file: tuple[tf_keras.Model, Path], tmp_path: Path) -> None:
    model, written = writes_a_file
    model.save(tmp_path / "mine.h5")
    with pytest.raises(UnfitError, match=r"can't be loaded by Keras 2.*potential risk"):
        load_model(tmp_path / "mine.h5", 2, None)
    assert not written.exists()


def rewrite(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the configuration of a model in a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    edit(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"config.json": json.dumps(config)}).items():
            archive.writestr(name, content)


def foreign_object(kind: str, **more: str) -> dict[str, Any]:
    """The configuration of an object that is not part of Keras."""
    return {"module": "brought_along", "class_name": kind, "config": {}, "registered_name": None, **more}


@BOTH
@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda config: config.update(module="brought_along"), "Sequential of brought_along"),
        (
            lambda config: config["config"]["layers"][1].update(module="brought_along"),
            "Dense of brought_along",
        ),
        (
            lambda config: config["config"]["layers"][1].update(registered_name="Mine>Dense"),
            "Mine>Dense of keras.layers",
        ),
        (
            lambda config: config["config"]["layers"][1]["config"].update(
                kernel_initializer=foreign_object("Ones")
            ),
            "Ones of brought_along",
        ),
        (
            lambda config: config["config"]["layers"][1]["config"].update(
                activation=foreign_object("Lambda", module="keras.layers")
            ),
            "Lambda of keras.layers",
        ),
        (
            lambda config: config["config"]["layers"][1]["config"].update(
                activation=foreign_object("function", module="builtins", config="eval")
            ),
            "eval of builtins",
        ),
    ],
)
def test_only_objects_of_keras_are_made_from_a_configuration(
    library: ModuleType,
    edit: Callable[[dict[str, Any]], object],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = tmp_path / "written"
    (tmp_path / "brought_along.py").write_text(f"open({str(written)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "mine.keras"
    library.Sequential([library.Input((8,)), library.layers.Dense(4)]).save(path)
    rewrite(path, edit)
    assert refused(path).startswith(f"names {named}, which is not a part of Keras that build knows: train")
    assert not written.exists()


@BOTH
def test_parts_of_a_model_for_training_only_are_ignored(library: ModuleType, tmp_path: Path) -> None:
    def own_loss(truth: Any, predicted: Any) -> Any:
        return predicted - truth

    base = base_of(library, pooling="avg")
    base.compile(library.optimizers.Adam(), library.losses.MeanSquaredError())
    head = library.layers.Dense(
        len(CLASSES),
        kernel_initializer=library.initializers.HeNormal(seed=1),
        kernel_regularizer=library.regularizers.L2(1e-4),
        kernel_constraint=library.constraints.MaxNorm(2),
    )
    model = library.Sequential([library.Input((SIZE, SIZE, 3)), base, head])
    model.compile(library.optimizers.SGD(), own_loss)
    for name in ("mine.keras", "mine.h5"):
        model.save(tmp_path / name)
        weights, _ = load_keras_file(tmp_path / name, None)
        np.testing.assert_array_equal(weights["predictions"].kernel, np.asarray(head.kernel))
