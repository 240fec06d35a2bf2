"""Loading a network from a file that Keras 2 or 3 saved: a whole model, or only weights."""

import json
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import h5py

from build.errors import BuildError
from build.network.architecture import INPUT_SIZE
from build.network.keras_config import check_config
from build.network.keras_layers import SAVE_WHOLE, UnfitError, filled
from build.network.keras_models import load_model
from build.network.keras_weights import weights_by_name
from build.network.model import Weights, fold

_DAMAGES = (
    *(OSError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    *(zipfile.BadZipFile, zlib.error),
)
_MEMBERS = ["config.json", "metadata.json", "model.weights.h5"]
_ARCHIVE_SUFFIXES, _HDF5_SUFFIXES = (".keras",), (".h5", ".hdf5")


def load_keras_file(path: Path, size: int | None) -> tuple[Weights, int]:
    """Load a `.keras` or `.h5` file; return the folded weights, and the side of the input in pixels.

    A whole model has a side, and `size` must match it; weights alone fit any size, 224 by default.

    Raises:
        BuildError: the file can't be read, or holds no network that the build stage takes; the message says
            what to do.
    """
    try:
        return _of_archive(path, size) if _is_archive(path) else _of_hdf5(path, size)
    except UnfitError as error:
        raise BuildError(f"{path} {error}") from None
    except _DAMAGES as error:
        raise BuildError(f"{path} is damaged ({' '.join(str(error).split())}): {SAVE_WHOLE}") from None


def _is_archive(path: Path) -> bool:
    """Return whether the file is a `.keras` archive and not HDF5, by both its content and its name.

    Keras goes by the name, and a file can be both at once: what is checked must be what Keras loads.

    Raises:
        UnfitError: it is neither, or both, or is not named after its format.
    """
    is_archive, is_hdf5 = zipfile.is_zipfile(path), h5py.is_hdf5(path)
    if not (is_archive or is_hdf5):
        raise UnfitError(f"is neither a .keras file nor an .h5 one: {SAVE_WHOLE}")
    if is_archive and is_hdf5:
        raise UnfitError(f"is a zip archive and HDF5 at once: {SAVE_WHOLE}")
    suffixes = _ARCHIVE_SUFFIXES if is_archive else _HDF5_SUFFIXES
    if path.suffix not in suffixes:
        kind = "a zip archive" if is_archive else "HDF5"
        raise UnfitError(f"is {kind}, but its name does not end in {' or '.join(suffixes)}: rename it")
    return is_archive


def _of_archive(path: Path, size: int | None) -> tuple[Weights, int]:
    with zipfile.ZipFile(path) as archive:
        if sorted(archive.namelist()) != _MEMBERS:
            raise UnfitError(f"does not hold exactly {', '.join(_MEMBERS)}: {SAVE_WHOLE}")
        config, metadata, weights = (archive.read(name) for name in _MEMBERS)
    with h5py.File(BytesIO(weights)) as file:
        _check_own_values(file)
    config, metadata = json.loads(config), json.loads(metadata)
    # It may name a custom loss; for an archive, Keras ignores it when told not to compile.
    config["compile_config"] = None
    return _of_model(path, config, metadata["keras_version"], size)


def _of_hdf5(path: Path, size: int | None) -> tuple[Weights, int]:
    with h5py.File(path) as file:
        _check_own_values(file)
        if "model_config" in file.attrs:
            config, version = json.loads(file.attrs["model_config"]), str(file.attrs["keras_version"])
        else:
            side = size or INPUT_SIZE
            return fold(filled(weights_by_name(file), side)), side
    return _of_model(path, config, version, size)


def _check_own_values(file: h5py.File) -> None:
    """Check that the values are in the file itself: HDF5 can name other files to read them from."""

    def is_link(_: str, link: object) -> bool | None:
        return isinstance(link, h5py.ExternalLink) or None  # None continues with the next.

    def is_elsewhere(_: str, item: object) -> bool | None:
        return (isinstance(item, h5py.Dataset) and (bool(item.external) or item.is_virtual)) or None

    if file.visititems_links(is_link) or file.visititems(is_elsewhere):
        raise UnfitError(f"takes values from other files: {SAVE_WHOLE}")


def _of_model(path: Path, config: dict[str, object], version: str, size: int | None) -> tuple[Weights, int]:
    check_config(config)
    loaded = load_model(path, int(version.partition(".")[0]), size)
    return fold(loaded.model, loaded.normalisation), loaded.size
