"""The installed runtime: LiteRT or, if that is missing, the older tflite-runtime.

They have the same interface, but neither the same operators nor the same kernels, so `RUNTIME` is
reported wherever it can matter.
"""

from importlib.metadata import version

try:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
    from ai_edge_litert.interpreter import load_delegate as load_library

    _PACKAGE = "ai-edge-litert"
except ModuleNotFoundError as error:
    if error.name != "ai_edge_litert":
        raise
    from tflite_runtime.interpreter import Interpreter, OpResolverType
    from tflite_runtime.interpreter import load_delegate as load_library

    _PACKAGE = "tflite-runtime"

__all__ = ["RUNTIME", "Interpreter", "OpResolverType", "load_library"]

RUNTIME = f"{_PACKAGE} {version(_PACKAGE)}"
