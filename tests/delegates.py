"""Delegates for tests: those of the runtime, and a real external one, compiled from data/delegate.c."""

import shutil
import subprocess
from pathlib import Path

import pytest

from service.inference.delegates import Delegate, parse_delegate

SOURCE = Path(__file__).parent / "data" / "delegate.c"

by_each_built_in = pytest.mark.parametrize("delegate", [Delegate.XNNPACK, Delegate.NONE], ids=str)


def compile_delegate(path: Path, *flags: str) -> Path:
    """Compile the external delegate to `path`; skips without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler (cc or gcc), which is not here")
    warnings = ("-Wall", "-Wextra", "-Werror", "-Wno-unused-function")
    command = [compiler, "-shared", "-fPIC", "-O2", *warnings, *flags, "-o", path, SOURCE]
    subprocess.run(command, check=True)  # noqa: S603
    return path


def external(library: Path, mode: str = "compute") -> Delegate:
    """The external delegate, in one of the modes that data/delegate.c lists."""
    return parse_delegate(str(library), f"mode={mode}")
