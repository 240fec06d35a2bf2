"""What the tests of files that Keras saved have in common."""

from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import pytest
import tf_keras

from build.errors import BuildError
from build.network.keras_files import load_keras_file
from tests.build.conftest import SIZE

BOTH = pytest.mark.parametrize("library", [tf_keras, keras], ids=["keras2", "keras3"])
WARNINGS = [
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
    # Keras 2, where it saves the kernels' initializers of its own application.
    pytest.mark.filterwarnings("ignore:The `keras.initializers.serialize:UserWarning"),
    # Keras 3, where it reads a variable of TensorFlow's.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


def base_of(library: ModuleType, **options: Any) -> Any:
    return library.applications.EfficientNetV2B0(
        weights=None, input_shape=(SIZE, SIZE, 3), include_top=False, **options
    )


def refused(path: Path, size: int | None = None) -> str:
    with pytest.raises(BuildError) as caught:
        load_keras_file(path, size)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"{path} ")
    return said.removeprefix(f"{path} ")
