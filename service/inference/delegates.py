"""What computes a variant's graph: a delegate's name, library and options."""

import ctypes
import platform
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from service.errors import DelegateError
from service.inference.runtime import load_library

Options = tuple[tuple[str, str], ...]


class Kind(StrEnum):
    """The delegates with a name."""

    XNNPACK = "xnnpack"
    NONE = "none"
    EDGETPU = "edgetpu"
    NNAPI = "nnapi"
    GPU = "gpu"


class Fallback(StrEnum):
    """What may compute a graph if the chosen delegate does not work: nothing, or the CPU with XNNPACK."""

    NONE = "none"
    CPU = "cpu"


_BUILT_IN = (Kind.XNNPACK, Kind.NONE)

_LIBRARIES = {Kind.EDGETPU: "libedgetpu.so.1", Kind.GPU: "libtensorflowlite_gpu_delegate.so"}
_REMEDIES = {
    Kind.EDGETPU: "install Coral's Edge TPU runtime, or mount that library in the loader's search path",
    Kind.GPU: "neither the packages nor the slim image have it: build TensorFlow Lite's GPU delegate for"
    " this device, and mount it in the loader's search path",
}
# From the documented C interface of an external delegate.
_SYMBOLS = ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate")


@dataclass(frozen=True)
class Delegate:
    """A named delegate, or an external one by its library's path; `options` go to its library.

    `xnnpack`: the CPU, with XNNPACK's kernels; `none`: the CPU, with the runtime's built-in kernels.
    """

    XNNPACK: ClassVar["Delegate"]
    NONE: ClassVar["Delegate"]

    which: Kind | Path
    options: Options = ()

    def __str__(self) -> str:
        return str(self.which)

    @property
    def is_built_in(self) -> bool:
        """Whether it is part of the runtime, with no library to load."""
        return self.which in _BUILT_IN

    @property
    def arguments(self) -> tuple[str, str]:
        """The arguments from which `parse_delegate` makes it again."""
        return str(self), ",".join(f"{key}={value}" for key, value in self.options)


Delegate.XNNPACK = Delegate(Kind.XNNPACK)
Delegate.NONE = Delegate(Kind.NONE)


def parse_delegate(name: str, options: str = "") -> Delegate:
    """Return the delegate with a name or an absolute path, and options as `key=value,key=value`.

    Raises:
        ValueError: it is neither, or the options have another form; the message says what is expected.
    """
    return Delegate(parse_name(name), parse_options(options))


def parse_name(name: str) -> Kind | Path:
    """Parse a delegate's name, or the absolute path of its library.

    Raises:
        ValueError: it is neither.
    """
    if name in set(Kind):
        return Kind(name)
    if not name.startswith("/"):
        raise ValueError(f"should be one of {', '.join(Kind)}, or the absolute path of a delegate's library")
    return Path(name)


def parse_options(text: str) -> Options:
    """Parse options written as `key=value,key=value`; a value can contain `=`, but no comma.

    Raises:
        ValueError: an option has no key or no `=`, or a key is given twice.
    """
    options: dict[str, str] = {}
    for part in text.split(",") if text else ():
        key, separator, value = part.partition("=")
        if not key or not separator:
            raise ValueError(f"should be key=value,key=value; {part!r} is not key=value")
        if key in options:
            raise ValueError(f"should have each key once; {key!r} is given twice")
        options[key] = value
    return tuple(options.items())


def load_delegate(delegate: Delegate) -> Any:
    """Return a new instance of a delegate that is not built in, for the runtime.

    Raises:
        DelegateError: it can't be loaded, or refuses; the message has the loader's or the delegate's reason.
    """
    if delegate.which is Kind.NNAPI:
        raise DelegateError(
            f"delegate nnapi exists only on Android, and this is {platform.system()}: use xnnpack, or name"
            " the library of another delegate"
        )
    library = _LIBRARIES[delegate.which] if isinstance(delegate.which, Kind) else str(delegate.which)
    _check_library(delegate, library)
    try:
        return load_library(library, dict(delegate.options))
    except ValueError as error:
        reason = " ".join(str(error).split()).removeprefix(f"Failed to load delegate from {library}").strip()
        with_options = ",".join(f"{key}={value}" for key, value in delegate.options)
        raise DelegateError(
            f"delegate {delegate} refuses{' with ' + with_options if with_options else ''}:"
            f" {reason or 'it gives no reason'}; is its device there, and are its options right?"
        ) from None


def _check_library(delegate: Delegate, library: str) -> None:
    """Let the loader load it first: if that failed in the runtime, it would print a traceback as well."""
    remedy = _REMEDIES.get(delegate.which) if isinstance(delegate.which, Kind) else None
    try:
        loaded = ctypes.CDLL(library)
    except OSError as error:
        reason = _loader_reason(library, str(error))
        advice = remedy or "name an external delegate's library for this system, with its dependencies"
        raise DelegateError(f"delegate {delegate} can't be loaded: {reason}; {advice}") from None
    for symbol in _SYMBOLS:
        if not hasattr(loaded, symbol):
            raise DelegateError(
                f"delegate {delegate} can't be loaded: {library} has no symbol {symbol}, so it is not an"
                " external delegate; name one that is"
            )


def _loader_reason(library: str, reason: str) -> str:
    path = Path(library)
    if path.is_dir():
        return f"{library} is a folder, not a library"
    # This is the reason if it is for another processor; if a dependency is missing, the reason names that.
    if path.is_file() and reason.startswith(f"{library}: ") and "No such file" in reason:
        return f"{library} exists, but not for this machine's processor ({platform.machine()})"
    return reason
