"""Helpers for the tests of files that Keras saved."""

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
    # Keras 2 warns when it saves the kernel initializers of its own application.
    pytest.mark.filterwarnings("ignore:The `keras.initializers.serialize:UserWarning"),
    # Keras 3 warns when it reads a variable of TensorFlow.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


def base_of(library: ModuleType, **options: Any) -> Any:
    return library.applications.EfficientNetV2B0(
        weights=None, input_shape=(SIZE, SIZE, 3), include_top=False, **options
    )


def refused(path: Path, size: int | None = None) -> str:
    """Check that a file is refused in one line; return what follows its path."""
    with pytest.raises(BuildError) as caught:
        load_keras_file(path, size)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path} ")
    return message.removeprefix(f"{path} ")
